"""Grammars of calls, as text; that a model is held to them is tested with the model."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import MARKER
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.chat import ToolSpec, ToolUse
from mlxdeck.server.schemas.loosening import closed
from tests.server.backends.local.toolcalls.test_formats import calls, writable

BYTES = LLTokenizer("byte")


def matcher(grammar: str) -> LLMatcher:
    """A compiled grammar, over bytes."""
    lark = LLMatcher.grammar_from_lark(grammar.replace(f"{MARKER} ", ""))
    return LLMatcher(BYTES, lark, log_level=0)


def accepts(grammar: str, text: str) -> bool:
    """Whether a whole answer is one of a grammar."""
    found = matcher(grammar)
    assert not found.get_error()
    return found.consume_tokens(BYTES.tokenize_bytes(text.encode())) and found.is_accepting()


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "mode": {"enum": ["r", "w"]},
        "n": {"type": "integer"},
        "flag": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "at": {"$ref": "#/$defs/at"},
    },
    "required": ["path", "mode"],
    "$defs": {"at": {"type": "object", "properties": {"line": {"type": "integer"}}}},
}
TOOL = ToolSpec("Open", "", SCHEMA)
RIGHT: list[dict[str, Any]] = [
    {"path": "a b.py", "mode": "r"},
    {"path": 'x"\n<y>', "mode": "w", "n": 3, "flag": True, "tags": ["a", "b"], "at": {"line": 1}},
]
WRONG: list[dict[str, Any]] = [
    {"path": "a"},
    {"path": "a", "mode": "x"},
    {"path": "a", "mode": "r", "n": "three"},
    {"path": "a", "mode": "r", "other": 1},
    {"path": "a", "mode": "r", "at": {"line": "x"}},
]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_grammar_is_what_the_format_writes(form: ToolFormat) -> None:
    """Arguments that conform, and no others; with the start, or behind the trigger."""
    grammar = form.grammar([TOOL], marked=True)
    behind = form.grammar([TOOL], marked=False)
    assert grammar is not None and behind is not None
    for arguments in RIGHT:
        text = form.write_call(ToolUse("", "Open", arguments))
        assert accepts(grammar, text), text
        trigger = form.trigger or form.starts[0]
        assert accepts(behind, text.partition(trigger)[2])
    for arguments in WRONG:
        text = form.write_call(ToolUse("", "Open", arguments))
        assert not accepts(grammar, text), text
    assert not accepts(grammar, form.write_call(ToolUse("", "Other", RIGHT[0])))


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_several_calls_are_one_answer_where_the_format_lists_them(form: ToolFormat) -> None:
    """Only if the client allows parallel calls."""
    if not form.between:
        return
    call = form.write("Open", RIGHT[0])
    text = f"{form.starts[0]}{form.opened}{call}{form.between}{call}{form.closed}"
    several = form.grammar([TOOL], marked=True, parallel=True)
    one = form.grammar([TOOL], marked=True)
    assert several is not None and accepts(several, text)
    assert one is not None and not accepts(one, text)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=15)
@given(call=calls())
def test_any_call_that_is_written_is_one_of_the_grammar(
    form: ToolFormat, call: tuple[ToolSpec, dict[str, Any]]
) -> None:
    """For random schemas and values."""
    tool, arguments = call
    grammar = form.grammar([tool], marked=True)
    if grammar is None or not writable(form, arguments):
        return
    nested = [each for each in arguments.values() if isinstance(each, list | dict)]
    if form.name in ("pythonic", "llama4") and re.search("true|false", json.dumps(nested)):
        # Deep inside a value its grammar is that of JSON, which is read as well.
        return
    text = form.write_call(ToolUse("", tool.name, arguments))
    assert accepts(grammar, text), (grammar, text)


def test_without_tools_there_is_no_grammar_but_that_of_an_answer() -> None:
    """JSON of a schema, alone or instead of a call."""
    form = FORMATS["json_tags"]
    assert form.grammar([], marked=True) is None
    number = form.grammar([], marked=True, answer={"type": "integer"})
    assert number is not None and accepts(number, "12") and not accepts(number, '"x"')
    either = form.grammar([TOOL], marked=True, answer={"type": "integer"})
    assert either is not None and accepts(either, "12")
    assert accepts(either, form.write_call(ToolUse("", "Open", RIGHT[0])))


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


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("sign", ["\x7f", "\x01", "\x85", "\u2028", '"', "\\", "/", "\u00e9"])
def test_any_character_of_a_name_or_a_value_can_be_held_to(name: str, sign: str) -> None:
    """Names of properties, values of enums and constants: none makes the whole schema loose."""
    parts = {f"a{sign}b": {"enum": [f"x{sign}", sign]}, "c": {"const": f"{sign}y"}}
    schema = {"type": "object", "properties": parts, "required": list(parts)}
    tools = [ToolSpec("use", "", {**schema, "additionalProperties": False})]
    grammar = FORMATS[name].grammar(tools, marked=True, parallel=False)
    if grammar is not None:
        assert not matcher(grammar).get_error()
