"""Schemas reduced to the part that a grammar can express; they may forbid more or less. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from mlxdeck.server.schemas.pointers import pointed

_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_NESTED = ("items", "additionalProperties", "not", "if", "then", "else")
_LISTED = ("anyOf", "oneOf", "prefixItems")
_KEPT = ("type", "enum", "const", "required", "$ref", "additionalProperties")
# RFC 3339, with an end to the fraction of a second: without one, a small model writes digits until
# it runs out of tokens.
_DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_BOUNDED = {"time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
FORMATS = {
    **_BOUNDED,
    "date": f"^{_DATE}$",
    "uuid": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    "ipv4": rf"^{_BYTE}(\.{_BYTE}){{3}}$",
}
"""Formats of texts as patterns, for schemas with only a format."""
# Grammars know the form of these; any other format requires nothing in JSON Schema.
_KNOWN_FORMATS = frozenset(
    {
        *("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"),
        *("uri", "unknown"),
    }
)
# Keywords that no grammar here expresses.
_BEYOND = frozenset(
    {
        *("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
        *("propertyNames", "uniqueItems", "contains", "minContains", "maxContains"),
        *("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
    }
)
_PLACED = ("properties", "required", "patternProperties", "$ref", "allOf", "anyOf", "oneOf")
"""What an object says of its properties, beside which alternatives don't name all of them."""
LARGEST_INTEGER = 9 * 10**18
LARGEST_NUMBER = 1e15
SMALLEST_STEP = 1e-9
_CHOICES = ("enum", "const")
_BOUNDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)


def closed(schema: Any) -> Any:
    """The schema with no room for properties that it doesn't name, where it doesn't speak of them.

    What conforms to the result conforms to the schema; a model is kept from making up parameters.
    """
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    if (form := str(found.get("format"))) in _BOUNDED and "pattern" not in found:
        found["pattern"] = _BOUNDED[form]
        del found["format"]
    elif "format" in found and form not in _KNOWN_FORMATS:
        del found["format"]
    if found.get("propertyNames") == {"type": "string"}:
        # All names are.
        del found["propertyNames"]
    apart = {key: found.pop(key) for key in ("anyOf", "oneOf") if _beside(key, schema)}
    found = _within(found, closed)
    for key, ways in apart.items():
        # Properties outside of such an alternative may be named beside it.
        found[key] = [_within(e, closed) if isinstance(e, dict) else e for e in ways]
    # Where schemas are combined, each would forbid the properties of the others.
    combined = any(key in found for key in ("allOf", "anyOf", "oneOf", "$ref", "patternProperties"))
    names, required = found.get("properties"), found.get("required")
    unnamed = isinstance(names, dict) and not set(required or ()) <= names.keys()
    if names is not None and "additionalProperties" not in found and not (combined or unnamed):
        found["additionalProperties"] = False
    return found


def _beside(key: str, schema: dict[str, Any]) -> bool:
    """Whether a schema has such alternatives, and says itself what properties there are."""
    told = any(other in schema for other in _PLACED if other != key)
    return told and isinstance(schema.get(key), list)


def bounded(schema: Any) -> Any:
    """The schema with an end to its numbers: a model may write digits until it runs out of tokens.

    Integers up to 19 digits and no `-0`, numbers up to 15 digits and 9 of a fraction; what may have
    no such number stays as it is.
    """
    if not isinstance(schema, dict):
        return schema
    found = _within(schema, bounded)
    kind = found.get("type")
    if kind not in ("integer", "number") or any(key in found for key in _CHOICES):
        return found
    whole = kind == "integer"
    largest: float = LARGEST_INTEGER if whole else LARGEST_NUMBER
    low, high = _range(found)
    if whole or ((low or 0) <= largest and (high or 0) >= -largest):
        _clip(found, largest)
        low, high = _range(found)
    if low is None and (high is None or high > -largest):
        found["minimum"] = low = -largest
    if high is None and low is not None and low < largest:
        found["maximum"] = high = largest
    if whole and low is not None and high is not None and low < 0 <= high and "anyOf" not in found:
        found["anyOf"] = [{"minimum": 0}, {"maximum": -1}]
    if not (whole or "multipleOf" in found or _chooses(found)) and _has_steps(low, high):
        found["multipleOf"] = SMALLEST_STEP
    return found


def _chooses(schema: Any) -> bool:
    """Whether values are named, or may be: an engine reckons whether they are multiples."""
    if not isinstance(schema, dict):
        return False
    parts = [each for key in ("allOf", "anyOf", "oneOf") for each in schema.get(key) or ()]
    return any(key in schema for key in (*_CHOICES, "$ref")) or any(map(_chooses, parts))


def _range(told: dict[str, Any]) -> tuple[float | None, float | None]:
    """The lowest and the highest bound that count, whether or not they are a part of it."""
    lows = [told[name] for name in ("minimum", "exclusiveMinimum") if name in told]
    highs = [told[name] for name in ("maximum", "exclusiveMaximum") if name in told]
    return max(lows, default=None), min(highs, default=None)


def _has_steps(low: float | None, high: float | None) -> bool:
    """Whether a multiple of the smallest step lies in a range, however it is rounded."""
    if low is None or high is None:
        return True
    return high - low > 4 * max(SMALLEST_STEP, math.ulp(low), math.ulp(high))


def _clip(told: dict[str, Any], largest: float) -> None:
    """Bounds that are out of range, such as those of 64 bits, become the last that are not."""
    for key, side in (("minimum", -1), ("maximum", 1)):
        for name in (key, f"exclusive{key.capitalize()}"):
            bound = told.get(name)
            if isinstance(bound, int | float) and bound * side > largest:
                del told[name]
                told.setdefault(key, largest * side)


def reduced(schema: Any, *without: str) -> Any:
    """The schema without the keywords that no grammar here expresses, and some others."""
    if not isinstance(schema, dict):
        return schema
    found = {key: each for key, each in schema.items() if key not in (*_BEYOND, *without)}
    if "oneOf" in found:
        # Of what conforms to one alternative, few conform to another.
        ways = found.pop("oneOf")
        found.setdefault("anyOf", ways)
    found = _within(found, lambda each: reduced(each, *without))
    if isinstance(found.get("allOf"), list):
        found["allOf"] = [reduced(each, *without) for each in found["allOf"]]
    return found


def reductions(schema: Any) -> Iterator[Any]:
    """A schema without a few keywords, fewer each time."""
    yield reduced(schema)
    yield reduced(schema, "pattern", "patternProperties", "minProperties", "maxProperties")


def loosened(schema: Any) -> Any:
    """The schema with nothing but types, names and choices: what any grammar can express.

    More than what conforms to the schema conforms to the result.
    """
    if not isinstance(schema, dict):
        return schema
    kept = (*_KEPT, *_NAMED, *_NESTED[:2], *_LISTED[:2])
    return _within({key: value for key, value in schema.items() if key in kept}, loosened)


def unavoidable(schema: Any) -> Any:
    """What every value has to conform to, whichever alternatives and optional parts it has.

    More than what conforms to the schema conforms to the result. So if nothing conforms to this,
    then nothing does to the schema.
    """
    if not isinstance(schema, dict):
        return schema
    found = {key: schema[key] for key in (*_CHOICES, "$ref", "type") if key in schema}
    if isinstance(schema.get("type"), str):
        # Without a type, these speak only of values that are of theirs.
        bounds = {key: schema[key] for key in _BOUNDS if key in schema}
        found |= {key: bound for key, bound in bounds.items() if _is_exact(key, bound)}
        found |= _needed(schema)
    for key in ("$defs", "definitions"):
        if isinstance(named := schema.get(key), dict):
            found[key] = {name: unavoidable(each) for name, each in named.items()}
    if isinstance(combined := schema.get("allOf"), list):
        found["allOf"] = [unavoidable(each) for each in combined]
    return found


def _is_exact(key: str, bound: Any) -> bool:
    """Whether an engine reckons with a bound as it is."""
    if key == "multipleOf":
        return float(bound).is_integer()
    return not isinstance(bound, int | float) or abs(bound) <= LARGEST_INTEGER


def _needed(schema: dict[str, Any]) -> dict[str, Any]:
    """Of an object, the properties that it must have; what others are doesn't matter."""
    required, named = schema.get("required"), schema.get("properties")
    if not isinstance(required, list):
        return {}
    found: dict[str, Any] = {"required": required}
    if isinstance(named, dict):
        needed = {name: unavoidable(e) if name in required else True for name, e in named.items()}
        found["properties"] = needed
    if schema.get("additionalProperties") is False and "patternProperties" not in schema:
        found["additionalProperties"] = False
    return found


def looser(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema of a tool's arguments, one step looser each time, down to any object."""
    yield from reductions(schema)
    yield loosened(schema)
    named = schema.get("properties")
    if isinstance(named, dict) and named:
        required = [name for name in schema.get("required", ()) if name in named]
        kinds = {name: _kind_alone(told, schema) for name, told in named.items()}
        yield {"type": "object", "properties": kinds, "required": required}
        anything: dict[str, Any] = dict.fromkeys(named, True)
        yield {"type": "object", "properties": anything, "required": required}
    yield {"type": "object"}


def _kind_alone(schema: Any, root: Any) -> Any:
    if isinstance(schema, dict) and "$ref" in schema:
        schema = pointed(schema["$ref"], root)
    kind = schema.get("type") if isinstance(schema, dict) else None
    return {"type": kind} if isinstance(kind, str) else {}


def _within(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The schema with a change made to every schema in it."""
    found = dict(schema)
    for key in _NAMED:
        if isinstance(named := found.get(key), dict):
            found[key] = {name: change(value) for name, value in named.items()}
    for key in _NESTED:
        if key in found:
            found[key] = change(found[key])
    for key in _LISTED:
        if isinstance(listed := found.get(key), list):
            found[key] = [change(value) for value in listed]
    return found
