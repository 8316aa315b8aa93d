"""Fits the values of a call to the tool's schema: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlxdeck.server.lenient_json import decode_first

_MAX_REFERENCES = 8


def coerced(value: Any, schema: Any) -> Any:
    """The value with what arrived as text turned into what the schema asks for, where that fits.

    Also the other way round: a number where a text is asked for becomes its digits.
    """
    if not isinstance(schema, Mapping):
        return value
    kinds = kinds_of(schema)
    if isinstance(value, str) and kinds and "string" not in kinds:
        value = _from_text(value, kinds)
    elif kinds == {"string"} and isinstance(value, int | float) and not isinstance(value, bool):
        value = json.dumps(value)
    if isinstance(value, dict):
        return {key: coerced(each, property_schema(schema, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [coerced(each, schema.get("items")) for each in value]
    return value


def property_schema(schema: Any, name: str) -> Any:
    """What a schema says of a property, behind references into itself; None if nothing."""
    named = schema.get("properties") if isinstance(schema, Mapping) else None
    found = named.get(name) if isinstance(named, Mapping) else None
    for _ in range(_MAX_REFERENCES):
        if not isinstance(found, Mapping) or not isinstance(path := found.get("$ref"), str):
            break
        if not path.startswith("#/"):
            return None
        found = schema
        for part in path[2:].split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
    return found


def kinds_of(schema: Any) -> set[str]:
    """The types that a schema allows; empty if it doesn't say."""
    if not isinstance(schema, Mapping):
        return set()
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {each for each in kind if isinstance(each, str)}
    for key in ("anyOf", "oneOf"):
        if isinstance(listed := schema.get(key), list):
            found = [kinds_of(each) for each in listed]
            return set().union(*found) if all(found) else set()
    return set()


def from_text(text: str, schema: Any) -> Any:
    """The value that a text without quotes stands for; the text itself where nothing else fits."""
    listed = schema.get("enum") if isinstance(schema, Mapping) else None
    if isinstance(listed, list):
        return next((each for each in listed if _plain_text(each) == text), text)
    kinds = kinds_of(schema) - {"string"}
    return _from_text(text, kinds) if kinds else text


def _plain_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _from_text(text: str, kinds: set[str]) -> Any:
    try:
        value, end, _ = decode_first(text.strip())
    except ValueError:
        return text
    if end < len(text.strip()) or not any(_is(value, kind) for kind in kinds):
        return text
    return value


def _is(value: Any, kind: str) -> bool:
    types: dict[str, tuple[type, ...]] = {
        "array": (list,),
        "object": (dict,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "null": (type(None),),
    }
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, types.get(kind, ()))
