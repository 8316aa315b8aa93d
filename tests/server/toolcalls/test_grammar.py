"""Grammars of calls, as text; that a model is held to them is tested with the model."""

from __future__ import annotations

from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.messages import ToolSpec
from mlxdeck.server.toolcalls import FORMATS
from mlxdeck.server.toolcalls.grammar import call_grammar, closed, schema_grammar
from mlxdeck.server.toolcalls.json_tags import JsonTags

READ = ToolSpec("Read", "", {"type": "object", "properties": {"path": {"type": "string"}}})


class Unwritten(JsonTags):
    """A format without a grammar."""

    def rule(self, name: str, arguments: str) -> str | None:
        return None


def test_a_grammar_is_one_of_the_calls() -> None:
    """With the marker that opens it, or behind it."""
    marked = call_grammar(FORMATS["json_tags"], [READ, READ], marked=True)
    assert marked is not None and marked.startswith('start: "<tool_call>" (call_0 | call_1)\n')
    behind = call_grammar(FORMATS["json_tags"], [READ], marked=False)
    assert behind is not None and behind.startswith("start: (call_0)\n")
    assert r"{\"name\": \"Read\", \"arguments\": " in behind and "args_0: %json " in behind


def test_without_tools_or_rules_there_is_no_grammar() -> None:
    """The answer is read and mended instead."""
    assert call_grammar(FORMATS["json_tags"], [], marked=True) is None
    assert call_grammar(Unwritten(), [READ], marked=True) is None


def test_an_answer_can_be_held_to_a_schema_alone() -> None:
    """One JSON value and nothing else."""
    assert schema_grammar({"type": "integer"}).startswith('start: %json {"type": "integer"')


def test_objects_are_closed_where_they_leave_it_open() -> None:
    """But not where they speak of it, nor where schemas are combined."""
    inner: dict[str, Any] = {"properties": {"b": {}}}
    assert closed({"properties": {"a": inner}}) == {
        "properties": {"a": {**inner, "additionalProperties": False}},
        "additionalProperties": False,
    }
    open_ones: list[dict[str, Any]] = [
        {"properties": {}, "additionalProperties": True},
        {"properties": {}, "allOf": [{"properties": {"a": {}}}]},
        {"type": "object"},
    ]
    for told in open_ones:
        assert closed(told) == told


SCALARS = st.sampled_from(["string", "integer", "boolean", "null"]).map(lambda kind: {"type": kind})
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.sampled_from("abc"), inner),
            }
        )
    ),
    max_leaves=5,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abcd"), inner),
    max_leaves=5,
)


@given(SCHEMAS, JSON)
def test_what_conforms_to_the_closed_schema_conforms_to_the_schema(
    schema: dict[str, object], value: object
) -> None:
    """Closing only ever forbids."""
    shut = jsonschema.Draft202012Validator(closed(schema))
    opened = jsonschema.Draft202012Validator(schema)
    assert not shut.is_valid(value) or opened.is_valid(value)
