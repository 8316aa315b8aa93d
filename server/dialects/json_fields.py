"""Typed reads from a decoded JSON body, whose errors name the field by its path."""

from __future__ import annotations

from typing import Any, TypeVar

from mlxdeck.server.chat import NO_LIMIT_TOKENS
from mlxdeck.server.errors import BadRequest

T = TypeVar("T")
MAX_DEPTH = 64
"""Maximal nesting of objects and lists, where later code walks the value."""

_WORDS = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def typed(value: object, kind: type[T], path: str) -> T:
    """Check the type of a value; an integer is no boolean, and a boolean is no integer."""
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise BadRequest(path, f"expected {_WORDS[kind]}")


def text(fields: dict[str, Any], key: str, path: str) -> str:
    """A required string."""
    return typed(required(fields, key, path), str, join(path, key))


def filled_text(fields: dict[str, Any], key: str, path: str) -> str:
    """A required string that is not empty."""
    if not (found := text(fields, key, path)):
        raise BadRequest(join(path, key), "must not be empty")
    return found


def required(fields: dict[str, Any], key: str, path: str) -> Any:
    """A field that must be there."""
    if key not in fields:
        raise BadRequest(join(path, key), "field required")
    return fields[key]


def number(fields: dict[str, Any], key: str, low: float, high: float) -> float | None:
    """An optional number within bounds, both included."""
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(key, "expected a number")
    if not low <= value <= high:
        raise BadRequest(key, f"must be between {low:g} and {high:g}, got {shown(value)}")
    return float(value)


def whole(value: object, path: str) -> int:
    """An integer, also where it is written as 4.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return typed(value, int, path)


def count(fields: dict[str, Any], key: str, low: int) -> int | None:
    """An optional integer, at least `low`."""
    if fields.get(key) is None:
        return None
    value = whole(fields[key], key)
    if value < low:
        raise BadRequest(key, f"must be at least {low}, got {shown(value)}")
    return value


def limit_tokens(fields: dict[str, Any], key: str) -> int | None:
    """An optional number of tokens; None is no limit, and -1 is `NO_LIMIT_TOKENS`, as is more."""
    if fields.get(key) == -1:
        return NO_LIMIT_TOKENS
    limit = count(fields, key, 1)
    return None if limit is None else min(limit, NO_LIMIT_TOKENS)


def shallow(value: dict[str, Any], path: str) -> dict[str, Any]:
    """Check that objects and lists are not nested too deeply."""
    if too_deep(value):
        raise BadRequest(path, f"is nested more than {MAX_DEPTH} levels deep")
    return value


def too_deep(value: dict[str, Any] | list[Any], left: int = MAX_DEPTH) -> bool:
    """Whether objects and lists are nested more than `left` levels."""
    if left == 0:
        return True
    return any(
        too_deep(inner, left - 1)
        for inner in (value.values() if isinstance(value, dict) else value)
        if inner and isinstance(inner, dict | list)
    )


def shown(value: float) -> str:
    """A number in an error; one of a thousand digits is not printed."""
    return f"{value}" if abs(value) < 1e15 else "a very large one"


def join(path: str, key: str | int) -> str:
    """A path one step further."""
    return f"{path}.{key}" if path else str(key)
