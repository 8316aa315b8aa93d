"""Limits of an answer's schema, far above real ones; an error names the limit.

Schemas of tools have no such limits, because clients seldom wrote them themselves. They are read as
far as that is cheap, and the constraint of a call covers that part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlxdeck.server.errors import BadRequest
from mlxdeck.server.schemas.patterns import MAX_PATTERN_CHARS

MAX_PARTS = 20_000
"""Objects, lists and values in a schema."""
MAX_PROPERTIES = 1_000
"""Of one object."""
MAX_CHARS = 500_000
"""Of all names and texts."""
MAX_HELD_PROPERTIES = 500
"""Of one object in the constraint of a call."""
MAX_HELD_PARTS = 10_000
"""Of the schema of a tool in the constraint of its calls."""
MAX_HELD_MULTIPLE = 1_000
"""Of an integer; an automaton has as many states."""


def within_limits(schema: dict[str, Any], path: str) -> None:
    """Check the schema of an answer.

    Raises:
        BadRequest: It is over a limit; the place and the limit are named.
    """
    n_chars = 0
    for n_parts, (at, value) in enumerate(_walk(schema, path)):
        if isinstance(value, str):
            n_chars += len(value)
            if at.endswith(".pattern") and len(value) > MAX_PATTERN_CHARS:
                raise BadRequest(at, f"is longer than {MAX_PATTERN_CHARS:,} characters")
        elif isinstance(value, dict):
            n_chars += sum(map(len, value))
            if at.endswith(".properties") and len(value) > MAX_PROPERTIES:
                raise BadRequest(at, f"names more than {MAX_PROPERTIES:,} properties")
        if n_parts > MAX_PARTS:
            raise BadRequest(path, f"has more than {MAX_PARTS:,} parts")
        if n_chars > MAX_CHARS:
            raise BadRequest(path, f"has more than {MAX_CHARS:,} characters of names and texts")


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    waiting: list[tuple[str, Any]] = [(path, value)]
    while waiting:
        at, each = waiting.pop()
        yield at, each
        if isinstance(each, dict):
            waiting += ((f"{at}.{key:.80}", inner) for key, inner in each.items())
        elif isinstance(each, list):
            waiting += ((f"{at}.{n}", inner) for n, inner in enumerate(each))


def too_large(schema: Any) -> str:
    """Why a schema can't constrain a call at all; empty if it may be tried."""
    for n_parts, (at, value) in enumerate(_walk(schema, "")):
        if n_parts > MAX_HELD_PARTS:
            return f"its schema has more than {MAX_HELD_PARTS:,} parts"
        named = at.endswith(".properties") and isinstance(value, dict)
        if named and len(value) > MAX_HELD_PROPERTIES:
            return f"its schema names more than {MAX_HELD_PROPERTIES:,} properties in one place"
    return ""


def too_costly(schema: Any) -> str:
    """Why not all keywords of a schema can be in a constraint; empty if they may be tried."""
    for at, value in _walk(schema, ""):
        if at.endswith(".pattern") and isinstance(value, str) and len(value) > MAX_PATTERN_CHARS:
            return f"a pattern is longer than {MAX_PATTERN_CHARS:,} characters"
        if at.endswith(".multipleOf") and isinstance(value, int) and value > MAX_HELD_MULTIPLE:
            return f"a multipleOf is greater than {MAX_HELD_MULTIPLE:,}"
    return ""
