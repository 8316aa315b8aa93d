"""Typed reads from a decoded JSON body, whose errors name the field by its path."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from mlxdeck.server.errors import BadRequest

T = TypeVar("T")

_decoder = msgspec.json.Decoder()
_WORDS = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a body that must be one JSON object."""
    try:
        value = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("", f"the body is not valid JSON: {error}") from error
    return typed(value, dict, "")


def typed(value: object, kind: type[T], path: str) -> T:
    """Check the type of a value; an integer is no boolean and the other way round."""
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise BadRequest(path, f"expected {_WORDS[kind]}")


def text(fields: dict[str, Any], key: str, path: str) -> str:
    """A required string."""
    return typed(required(fields, key, path), str, join(path, key))


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
        raise BadRequest(key, f"must be between {low:g} and {high:g}, got {value:g}")
    return float(value)


def count(fields: dict[str, Any], key: str, low: int) -> int | None:
    """An optional integer, at least `low`."""
    value = fields.get(key)
    if value is None:
        return None
    whole = typed(value, int, key)
    if whole < low:
        raise BadRequest(key, f"must be at least {low}, got {whole}")
    return whole


def join(path: str, key: str | int) -> str:
    """A path one step further."""
    return f"{path}.{key}" if path else str(key)
