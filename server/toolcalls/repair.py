"""Mends what models get wrong in the JSON of a call, and fits values to the tool's schema: pure.

Nothing is ever made up: what is cut off or can't be told stays an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LITERALS = {"True": "true", "False": "false", "None": "null"}
_MAX_REFERENCES = 8
ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def decode_first(text: str) -> tuple[Any, int, bool]:
    """Decode the JSON value that a text begins with: value, its length, whether it was mended.

    Mended are single quotes, trailing commas, raw line breaks in strings and Python's literals.

    Raises:
        ValueError: There is none, or it doesn't end.
    """
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError:
        mended, end = _mended(text)
        return json.loads(mended), end, True
    return value, end, False


def _mended(text: str) -> tuple[str, int]:
    """The value that the text begins with as strict JSON, and the length of the original."""
    out: list[str] = []
    depth = at = 0
    while at < len(text):
        char = text[at]
        if char in "\"'":
            string, at = _string(text, at)
            out.append(string)
        elif char.isalpha():
            begin = at
            while at < len(text) and text[at].isalnum():
                at += 1
            word = text[begin:at]
            out.append(_LITERALS.get(word, word))
        else:
            at += 1
            depth += (char in "[{") - (char in "]}")
            if char in "]}":
                _drop_comma(out)
            out.append(char)
        if depth <= 0 and "".join(out).strip():
            return "".join(out), at
    raise ValueError("the JSON does not end")


def _drop_comma(out: list[str]) -> None:
    place = len(out) - 1
    while place >= 0 and out[place].isspace():
        place -= 1
    if place >= 0 and out[place] == ",":
        del out[place]


def _string(text: str, begin: int) -> tuple[str, int]:
    """The string that begins there, in double quotes, and where it ends."""
    quote, out, at = text[begin], ['"'], begin + 1
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            # JSON knows no \' and no other escapes that Python would let pass.
            known = text[at + 1] in '"\\/bfnrtu'
            out.append(
                text[at : at + 2] if known else "\\\\" * (text[at + 1] != "'") + text[at + 1]
            )
            at += 2
        elif char == quote:
            return "".join([*out, '"']), at + 1
        else:
            out.append('\\"' if char == '"' else ESCAPED.get(char, char))
            at += 1
    raise ValueError("a string does not end")


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
