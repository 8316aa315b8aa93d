"""Schemas of clients, read by their evident meaning or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlxdeck.server.errors import BadRequest
from mlxdeck.server.schemas.normalization import answer_schema, tool_schema


def with_property(told: Any, **beside: Any) -> dict[str, Any]:
    """An object with one property."""
    return {"type": "object", "properties": {"a": told}, "required": ["a"], **beside}


ODD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "required null": (
        {"type": "object", "properties": {}, "required": None},
        {"type": "object", "properties": {}},
    ),
    "required a text": (with_property({}, required="a"), with_property({})),
    "required at the property": (
        {"type": "object", "properties": {"a": {"required": True}}},
        with_property({}),
    ),
    "any": (with_property({"type": "any"}), with_property({})),
    "wrong case": (with_property({"type": "String"}), with_property({"type": "string"})),
    "another language's": (with_property({"type": "dict"}), with_property({"type": "object"})),
    "no type at all": (with_property({"type": "nonsense"}), with_property({})),
    "items null": (
        with_property({"type": "array", "items": None}),
        with_property({"type": "array"}),
    ),
    "items listed": (
        with_property({"items": [{"type": "null"}]}),
        with_property({"prefixItems": [{"type": "null"}]}),
    ),
    "others null": (with_property({}, additionalProperties=None), with_property({})),
    "empty enum": (with_property({"enum": []}), with_property({})),
    "missing reference": (with_property({"$ref": "#/$defs/Gone"}), with_property({})),
    "reference elsewhere": (with_property({"$ref": "https://a.b/c"}), with_property({})),
    "ring of references": (with_property({"$ref": "#/properties/a"}), with_property({})),
    "nullable": (
        with_property({"type": "string", "nullable": True}),
        with_property({"type": ["string", "null"], "nullable": True}),
    ),
    "draft 4 bound": (
        with_property({"minimum": 1, "exclusiveMinimum": True}),
        with_property({"exclusiveMinimum": 1}),
    ),
    "bound in quotes": (with_property({"maxLength": "5"}), with_property({"maxLength": 5})),
    "steps of nothing": (with_property({"multipleOf": 0}), with_property({})),
    "steps without end": (with_property({"multipleOf": "inf"}), with_property({})),
    "empty object of PHP": (
        {"type": "object", "properties": []},
        {"type": "object", "properties": {}},
    ),
    "a name for a schema": (with_property("string"), with_property({"type": "string"})),
    "null among others": (
        with_property({"anyOf": [{"type": "string"}, None]}),
        with_property({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_schemas_of_tools_are_read(name: str) -> None:
    """As what they must mean, which is a JSON Schema."""
    told, meant = ODD[name]
    found = tool_schema(told, "tools.0.input_schema")
    assert found == meant
    Draft202012Validator.check_schema(found)


def test_a_sound_schema_stays_what_it_is() -> None:
    """The very object, so that nothing about a prompt changes."""
    told = with_property({"$ref": "#"}, title="T", default={"required": None})
    assert tool_schema(told, "p") is told


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ({"type": "array", "items": {}}, "p.type"),
        ({"type": "nonsense"}, "p.type"),
        ({"type": ["string", "null"]}, "p.type"),
        ({"enum": ["a"]}, "p: "),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "p: "),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "p: "),
    ],
)
def test_a_tool_that_no_call_could_conform_to_is_refused(told: dict[str, Any], names: str) -> None:
    """Arguments are an object; the keyword is named."""
    with pytest.raises(BadRequest) as refused:
        tool_schema(told, "p")
    assert refused.value.message.startswith(names)


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ({"type": "object", "required": None}, "p.required"),
        (with_property({"type": "nonsense"}), "p.properties.a.type"),
        (with_property({"$ref": "#/$defs/Gone"}), "$ref '#/$defs/Gone'"),
        (with_property({"$ref": "https://a.b/c"}), "$ref 'https://a.b/c'"),
        (with_property({"$ref": "#/properties/a"}), "'#/properties/a' leads to no schema"),
    ],
)
def test_the_schema_of_an_answer_is_refused_where_it_is_wrong(
    told: dict[str, Any], names: str
) -> None:
    """It is the client's own; the keyword is named."""
    with pytest.raises(BadRequest) as refused:
        answer_schema(told, "p")
    assert names in refused.value.message
    assert answer_schema({"type": "array"}, "p") == {"type": "array"}


def test_what_nests_without_end_is_cut() -> None:
    """And no recursion fails on it."""
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(5_000):
        deep = {"type": "object", "properties": {"a": deep}}
    found, depth = tool_schema(deep, "p"), 0
    while "properties" in found:
        found, depth = found["properties"]["a"], depth + 1
    assert depth < 100


def test_a_pattern_may_name_classes_of_unicode() -> None:
    """JSON Schema's expressions know them, Python's don't."""
    told = {"type": "string", "pattern": "^[\\p{L}\\p{Nd}]{1,4}$"}
    assert answer_schema(told, "p") == told
    with pytest.raises(BadRequest, match="pattern"):
        answer_schema({"type": "string", "pattern": "\\p{L}[a"}, "p")
