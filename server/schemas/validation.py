"""Whether a value conforms to a JSON Schema (2020-12), in a bounded number of steps.

This is our own code, because a library builds texts of errors and follows references as often as a
schema has them. Both would delay other requests. A schema that meets the same value again is judged
once. So references that multiply cost no more than the length of the schema. Checks that would cost
too much, or are not known here, are skipped.

https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from itertools import islice
from typing import Any

from mlxdeck.server.schemas.patterns import compiled
from mlxdeck.server.schemas.pointers import pointed

MAX_STEPS = 20_000
"""Keywords looked at for one value, at about two microseconds each."""
MAX_NESTED = 150
_BEYOND = frozenset(
    {"unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef", "dependencies"}
)
"""Keywords that are not judged by."""


class Unjudged(Exception):
    """The schema can't be judged by, or only at too great a cost."""


def conforms(value: Any, schema: Any, root: Any = None) -> bool | None:
    """Whether a value conforms; None if the schema can't be judged by, or only at a great cost.

    `root` is what the references of the schema are into, if that is another one.
    """
    if not isinstance(schema, Mapping | bool):
        return None
    judge = Judge(schema if root is None else root)
    try:
        return judge.holds(value, schema)
    except Unjudged:
        return None
    # What is no schema fails in its own ways.
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, RecursionError):
        return None


class Judge:
    """Judges one value, with a number of steps that can be spent."""

    def __init__(self, root: Any, steps: int = MAX_STEPS) -> None:
        self._root = root
        self.left = steps
        self._nested = 0
        # By identity: both live as long as this does.
        self._known: dict[tuple[int, int], bool | None] = {}

    def spend(self, steps: int) -> None:
        """Take so many steps.

        Raises:
            Unjudged: There are not so many left.
        """
        self.left -= steps
        if self.left < 0:
            raise Unjudged

    def holds(self, value: Any, schema: Any) -> bool:
        """Whether a value conforms to a schema.

        Raises:
            Unjudged: The check costs too much, or is not known.
        """
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise Unjudged
        place = (id(value), id(schema))
        if place in self._known:
            known = self._known[place]
            if known is None:
                # It refers to itself without going on to a part of the value.
                raise Unjudged
            return known
        self._known[place] = None
        self._nested += 1
        if self._nested > MAX_NESTED:
            raise Unjudged
        found = self._all(value, schema)
        self._nested -= 1
        self._known[place] = found
        return found

    def _all(self, value: Any, schema: Mapping[str, Any]) -> bool:
        self.spend(1 + len(schema))
        if not _BEYOND.isdisjoint(schema):
            raise Unjudged
        kinds = _KINDS_OF.get(type(value), ())
        # The type first: it is cheap, and most often what is wrong.
        if "type" in schema and not _is_of(value, schema["type"]):
            return False
        for keyword, told in schema.items():
            check = _KEYWORDS.get(keyword)
            speaks = check and (check[0] is None or check[0] in kinds)
            if check and speaks and not check[1](self, value, told, schema):
                return False
        return True


Check = Callable[[Judge, Any, Any, Mapping[str, Any]], bool]
_KINDS_OF: Mapping[type, tuple[str, ...]] = {
    str: ("string",),
    int: ("number",),
    float: ("number",),
    list: ("array",),
    dict: ("object",),
}
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        isinstance(value, int) and not isinstance(value, bool)
    ) or (isinstance(value, float) and value.is_integer()),
}  # fmt: skip


def _is_of(value: Any, told: Any) -> bool:
    return any(_TYPES[kind](value) for kind in ([told] if isinstance(told, str) else told))


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same to JSON Schema: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(each, other[k]) for k, each in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def _size(value: Any, at_most: int) -> int:
    """How many values there are in a value, counted no further than that."""
    n, waiting = 0, [value]
    while waiting and n < at_most:
        each = waiting.pop()
        n += 1
        if isinstance(each, dict | list):
            inner = each.values() if isinstance(each, dict) else each
            waiting.extend(islice(inner, at_most))
    return n


def _const(judge: Judge, value: Any, told: Any, _: Any) -> bool:
    judge.spend(_size(told, judge.left + 1) if isinstance(value, dict | list) else 1)
    return equal(value, told)


def _enum(judge: Judge, value: Any, told: list[Any], _: Any) -> bool:
    if isinstance(value, str | int | float | bool | None):
        judge.spend(len(told) // 50)
        # Found by the interpreter's own loop, then separated from values that only equal it in
        # Python.
        return value in told and any(equal(each, value) for each in told if each == value)
    judge.spend(_size(told, judge.left + 1))
    return any(equal(each, value) for each in told)


def _ref(judge: Judge, value: Any, told: Any, _: Any) -> bool:
    judge.spend(3)
    found = pointed(told, judge._root)
    if found is None:
        raise Unjudged
    return judge.holds(value, found)


def _some(judge: Judge, value: Any, told: list[Any], _: Any) -> bool:
    return any(judge.holds(value, each) for each in told)


def _every(judge: Judge, value: Any, told: list[Any], _: Any) -> bool:
    return all(judge.holds(value, each) for each in told)


def _one(judge: Judge, value: Any, told: list[Any], _: Any) -> bool:
    return sum(judge.holds(value, each) for each in told) == 1


def _if(judge: Judge, value: Any, told: Any, schema: Mapping[str, Any]) -> bool:
    branch = schema.get("then" if judge.holds(value, told) else "else", True)
    return judge.holds(value, branch)


def _properties(judge: Judge, value: dict[str, Any], told: Mapping[str, Any], _: Any) -> bool:
    judge.spend(len(told) // 20)
    return all(judge.holds(value[name], each) for name, each in told.items() if name in value)


def _required(judge: Judge, value: dict[str, Any], told: list[str], _: Any) -> bool:
    judge.spend(len(told) // 20)
    return all(name in value for name in told)


def _matching(judge: Judge, pattern: str, names: Collection[str]) -> list[str]:
    expression = compiled(pattern)
    judge.spend(sum(expression.cost(len(name)) for name in names))
    return [name for name in names if expression.found_in(name)]


def _pattern_properties(judge: Judge, value: dict[str, Any], told: Any, _: Any) -> bool:
    return all(
        judge.holds(value[name], each)
        for pattern, each in told.items()
        for name in _matching(judge, pattern, value)
    )


def _others(judge: Judge, value: dict[str, Any], told: Any, schema: Mapping[str, Any]) -> bool:
    judge.spend(len(value) // 20)
    left = [name for name in value if name not in schema.get("properties", ())]
    for pattern in schema.get("patternProperties", ()):
        named = set(_matching(judge, pattern, left))
        left = [name for name in left if name not in named]
    return all(judge.holds(value[name], told) for name in left)


def _names(judge: Judge, value: dict[str, Any], told: Any, _: Any) -> bool:
    judge.spend(len(value))
    return all(judge.holds(name, told) for name in value)


def _needed_beside(judge: Judge, value: dict[str, Any], told: Any, _: Any) -> bool:
    judge.spend(len(told))
    return all(
        _required(judge, value, needed, told) for name, needed in told.items() if name in value
    )


def _schemas_beside(judge: Judge, value: dict[str, Any], told: Any, _: Any) -> bool:
    judge.spend(len(told))
    return all(judge.holds(value, each) for name, each in told.items() if name in value)


def _prefix(judge: Judge, value: list[Any], told: list[Any], _: Any) -> bool:
    return all(map(judge.holds, value, told))


def _items(judge: Judge, value: list[Any], told: Any, schema: Mapping[str, Any]) -> bool:
    judge.spend(len(value) // 20)
    begin = len(schema.get("prefixItems", ()))
    return all(judge.holds(each, told) for each in islice(value, begin, None))


def _contains(judge: Judge, value: list[Any], told: Any, schema: Mapping[str, Any]) -> bool:
    judge.spend(len(value))
    n = sum(judge.holds(each, told) for each in value)
    return bool(schema.get("minContains", 1) <= n <= schema.get("maxContains", math.inf))


def _unique(judge: Judge, value: list[Any], told: bool, _: Any) -> bool:
    if not told:
        return True
    if all(isinstance(each, str | int | float | None) for each in value):
        judge.spend(len(value) // 20)
        # True and 1 are one in a set, and two in JSON.
        return len({(isinstance(each, bool), each) for each in value}) == len(value)
    judge.spend(len(value) * _size(value, judge.left + 1))
    return not any(equal(one, other) for n, one in enumerate(value) for other in value[:n])


def _multiple(judge: Judge, value: float, told: float, _: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, int) and isinstance(told, int):
        return value % told == 0
    quotient = value / told
    if math.isinf(quotient):
        return Fraction(value) % Fraction(told) == 0
    return quotient == int(quotient)


def _pattern(judge: Judge, value: str, told: str, _: Any) -> bool:
    return bool(_matching(judge, told, [value]))


_KEYWORDS: Mapping[str, tuple[str | None, Check]] = {
    "const": (None, _const),
    "enum": (None, _enum),
    "$ref": (None, _ref),
    "anyOf": (None, _some),
    "allOf": (None, _every),
    "oneOf": (None, _one),
    "not": (None, lambda judge, value, told, _: not judge.holds(value, told)),
    "if": (None, _if),
    "properties": ("object", _properties),
    "required": ("object", _required),
    "patternProperties": ("object", _pattern_properties),
    "additionalProperties": ("object", _others),
    "propertyNames": ("object", _names),
    "minProperties": ("object", lambda _, value, told, __: len(value) >= told),
    "maxProperties": ("object", lambda _, value, told, __: len(value) <= told),
    "dependentRequired": ("object", _needed_beside),
    "dependentSchemas": ("object", _schemas_beside),
    "prefixItems": ("array", _prefix),
    "items": ("array", _items),
    "contains": ("array", _contains),
    "minItems": ("array", lambda _, value, told, __: len(value) >= told),
    "maxItems": ("array", lambda _, value, told, __: len(value) <= told),
    "uniqueItems": ("array", _unique),
    "minLength": ("string", lambda _, value, told, __: len(value) >= told),
    "maxLength": ("string", lambda _, value, told, __: len(value) <= told),
    "pattern": ("string", _pattern),
    "minimum": ("number", lambda _, value, told, __: value >= told),
    "maximum": ("number", lambda _, value, told, __: value <= told),
    "exclusiveMinimum": ("number", lambda _, value, told, __: value > told),
    "exclusiveMaximum": ("number", lambda _, value, told, __: value < told),
    "multipleOf": ("number", _multiple),
}
"""For each keyword the kind of value that it speaks of, and how that is judged."""
