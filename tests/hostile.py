"""Inputs that cost far more than they look like, by kind: for tests, and for `make bench`.

Each is what a client could send, or what a careless tool server does send.
"""

from __future__ import annotations

from typing import Any


def nested(depth: int) -> dict[str, Any]:
    """Objects in objects."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def doubling(depth: int, keyword: str = "anyOf") -> dict[str, Any]:
    """References that each lead to two: as many ways as 2 to the power of the depth."""
    defs: dict[str, Any] = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(depth)
    }
    defs[f"d{depth}"] = {"type": "object", "properties": {"a": {"type": "string"}}}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def doubling_objects(depth: int) -> dict[str, Any]:
    """The same through properties."""
    defs: dict[str, Any] = {
        f"d{n}": {
            "type": "object",
            "properties": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in "ab"},
            "required": ["a", "b"],
        }
        for n in range(depth)
    }
    defs[f"d{depth}"] = {"type": "string"}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def with_(told: Any) -> dict[str, Any]:
    """An object with one property of that schema."""
    return {"type": "object", "properties": {"a": told}, "required": ["a"]}


PATTERNS = (
    "^(a+)+$",
    "^(.*a)*300$",
    "^(.*a){300}$",
    "(a{1,1000}){1,1000}",
    "^.*a.{400}$",
    "(x+x+)+y",
    "^(a|b|ab)*c$",
    "(?=(a+)+$)a",
    "^(a*)*\\1$",
    "(" * 500 + "a" + ")" * 500,
    "x" * 50_000,
    "[\\p{L}\\p{N}]{1,999}" * 20,
)
"""Regular expressions that take for ever, take much memory, or are none that is known."""

SCHEMAS: dict[str, dict[str, Any]] = {
    **{f"pattern {p[:24]}": with_({"type": "string", "pattern": p}) for p in PATTERNS},
    "pattern of names": {"type": "object", "patternProperties": {"^(a+)+$": {}, "(.*x)*y": {}}},
    "40 refs, anyOf": doubling(40),
    "40 refs, allOf": doubling(40, "allOf"),
    "40 refs, oneOf": doubling(40, "oneOf"),
    "40 refs, objects": doubling_objects(40),
    "12 refs, oneOf": doubling(12, "oneOf"),
    "allOf of 60 refs to itself": {"allOf": [{"$ref": "#/$defs/a"}] * 60, "$defs": {
        "a": {"allOf": [{"$ref": "#/$defs/b"}] * 60}, "b": {"anyOf": [{"type": "object"}] * 60}}},
    "anyOf of 60 in anyOf of 60": with_({"anyOf": [
        {"anyOf": [{"type": "object", "properties": {f"p{m}": {"const": n}}} for m in range(60)]}
        for n in range(60)]}),
    "nested 60": nested(60),
    "enum of 20,000": with_({"enum": [f"value {n}" for n in range(20_000)]}),
    "enum of long texts": with_({"enum": [f"{n}" * 5_000 for n in range(100)]}),
    "3,000 properties": {"type": "object", "properties": {
        f"p{n}": {"type": "string"} for n in range(3_000)}},
    "3,000 required": {"type": "object", "required": [f"p{n}" for n in range(3_000)],
        "properties": {f"p{n}": {"type": "integer"} for n in range(3_000)}},
    "unevaluated": {"unevaluatedProperties": False, **doubling(40, "allOf")},
    "lists in lists": with_({"type": "array", "maxItems": 250, "items": {
        "type": "array", "maxItems": 250, "items": {"type": "array", "maxItems": 250}}}),
    "long bounds": with_({"type": "string", "minLength": 100_000, "maxLength": 10**9}),
    "large multiples": with_({"type": "integer", "multipleOf": 999_983, "maximum": 10**18}),
    "$schema is a number": {"$schema": 5, **with_({"type": "string"})},
    "$schema is a list": {"$schema": [], **with_({"$schema": {}, "type": "string"})},
    "another draft": {"$schema": "http://json-schema.org/draft-04/schema#", **with_(
        {"$schema": "http://json-schema.org/draft-03/schema#", "pattern": "^(a+)+$"})},
}  # fmt: skip
"""Schemas of arguments or answers."""
