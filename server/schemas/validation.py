"""Whether a value conforms to a schema, within a budget: neither may hold up a shared thread.

Python's regular expressions can take for ever on a short text, and references can multiply. What
would cost too much is not judged.
"""

from __future__ import annotations

import re
import re._constants as codes  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from jsonschema.exceptions import SchemaError, UnknownType
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_CHECKS = 5_000
"""Keywords that are looked at for one value."""
MAX_SCHEMA_CHARS = 200_000
MAX_PATTERN_STEPS = 1_000_000
MAX_REPEATS = 10
"""Beyond that, a bounded repetition counts like one without bound."""
_KEYWORDS_WITH_PATTERNS = ("pattern", "patternProperties", "additionalProperties")
_left: ContextVar[list[int]] = ContextVar("checks left")


class _Costly(Exception):
    """What is left to check costs too much."""


def conforms(value: Any, schema: Any) -> bool | None:
    """Whether a value conforms; None if the schema can't be judged by, or only at a great cost."""
    if not isinstance(schema, dict | bool):
        return None
    token = _left.set([MAX_CHECKS])
    try:
        kind = _budgeted(validator_for(schema))
        if isinstance(schema, dict) and not _is_schema(schema):
            return None
        # A registry of its own: without one, a `$ref` of a client's could make us fetch a URL.
        return bool(kind(schema, registry=Registry()).is_valid(value))
    except (SchemaError, UnknownType, Unresolvable, RecursionError, re.error, _Costly):
        return None
    # What is no schema makes the library fail in its own ways.
    except (TypeError, ValueError, AttributeError, KeyError):
        return None
    finally:
        _left.reset(token)


def _is_schema(schema: dict[str, Any]) -> bool:
    """Whether it is one by its own rules; a huge one is believed."""
    written = repr(schema)
    return len(written) > MAX_SCHEMA_CHARS or _known_schema(_Told(written, schema))


class _Told:
    """A schema that is found again by how it is written."""

    def __init__(self, written: str, schema: dict[str, Any]) -> None:
        self.written, self.schema = written, schema

    def __hash__(self) -> int:
        return hash(self.written)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Told) and other.written == self.written


@lru_cache(256)
def _known_schema(told: _Told) -> bool:
    try:
        validator_for(told.schema).check_schema(told.schema)
    except SchemaError:
        return False
    return True


@lru_cache(8)
def _budgeted(kind: Any) -> Any:
    """The validator of a draft, with every keyword counted and patterns weighed."""
    counted = {name: _counted(name, check) for name, check in kind.VALIDATORS.items()}
    return extend(kind, counted)  # type: ignore[no-untyped-call]


def _counted(name: str, check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def counted(validator: Any, told: Any, value: Any, schema: Any) -> Iterator[Any]:
        left = _left.get()
        left[0] -= 1
        if left[0] < 0:
            raise _Costly
        if name in _KEYWORDS_WITH_PATTERNS:
            _weigh(name, told, value, schema)
        yield from check(validator, told, value, schema) or ()

    return counted


def _weigh(name: str, told: Any, value: Any, schema: Any) -> None:
    if name == "pattern":
        patterns, texts = [told], [value]
    else:
        # The second one looks for the names that the first one covers.
        patterns = list(schema.get("patternProperties") or ())
        texts = list(value) if isinstance(value, dict) else []
    longest = max((len(text) for text in texts if isinstance(text, str)), default=0)
    for pattern in patterns:
        if isinstance(pattern, str) and longest * len(texts) > MAX_PATTERN_STEPS:
            raise _Costly
        if isinstance(pattern, str) and longest ** _degree(pattern) > MAX_PATTERN_STEPS:
            raise _Costly


@lru_cache(1024)
def _degree(pattern: str) -> int:
    """The power of a text's length that matching may take; more than any where it is worse.

    Raises:
        re.error: It is no regular expression of Python's.
    """
    # A search begins anew at every place.
    return 1 + _repeats(parser.parse(pattern), inside=False)


def _repeats(parsed: Any, *, inside: bool) -> int:
    found = 0
    for code, argument in parsed:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            _, high, body = argument
            many = high > MAX_REPEATS
            if many and inside:
                # One in another: exponential in the worst case.
                return 64
            found += many + _repeats(body, inside=inside or many)
        elif code is codes.BRANCH:
            # Alternatives that are repeated may match the same text in many ways.
            ways = [_repeats(way, inside=inside) for way in argument[1]]
            found += 64 if inside and not _apart(argument[1]) else max(ways)
        else:
            found += sum(_repeats(part, inside=inside) for part in _parts(argument))
    return found


def _apart(ways: Any) -> bool:
    """Whether alternatives begin with different characters each."""
    firsts = [way[0] if len(way) else None for way in ways]
    literal = [first[1] for first in firsts if first is not None and first[0] is codes.LITERAL]
    return len(literal) == len(ways) == len(set(literal))


def _parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for each in argument:
            yield from _parts(each)
