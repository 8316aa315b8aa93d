"""Every format of calls: what models write comes out right however it is cut, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS, choose_format
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import ToolCallEnd, ToolResult, ToolSpec, ToolUse
from tests.server.backends.local.toolcalls.cases import CASES, TOOLS, Case, Summary
from tests.server.backends.local.toolcalls.summary import summary

LISTED = [
    pytest.param(form, case, id=f"{form}-{number}")
    for form in FORMATS
    for number, case in enumerate(CASES[form])
]
NAMES = {tool.name for tool in TOOLS}


def read(
    form: str, chunks: list[str], tools: tuple[ToolSpec, ...] = TOOLS, *, complete: bool = True
) -> Summary:
    """What a format makes of an answer in pieces."""
    splitter = Splitter(Markers(), FORMATS[form], tools)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    return summary([*pieces, *splitter.close(complete=complete)])


def test_every_format_has_its_cases() -> None:
    """At least eight."""
    assert {name for name in FORMATS if len(CASES[name]) < 8} == set()


@pytest.mark.parametrize(("form", "case"), LISTED)
def test_what_models_write_comes_out_however_it_is_cut(form: str, case: Case) -> None:
    """As one piece, character by character, and in two pieces at every place."""
    text, expected = case
    assert read(form, [text]) == expected
    assert read(form, list(text)) == expected
    for cut in range(1, len(text)):
        assert read(form, [text[:cut], text[cut:]]) == expected, text[:cut]


@pytest.mark.parametrize(("form", "case"), LISTED)
def test_a_call_cut_off_anywhere_is_no_other_call(form: str, case: Case) -> None:
    """By the token limit: whole calls in their order, and never a value that was not written."""
    text, expected = case
    whole = [each for each in expected if each[0] in NAMES]
    for end in range(len(text)):
        got = read(form, [text[:end]], complete=False)
        calls = [each for each in got if each[0] in NAMES]
        assert calls == whole[: len(calls)], text[:end]
        if not calls and form != "harmony":
            # Nothing of it is lost either: what is no call is text, but for half a marker.
            lost = text[:end].lstrip("\n").removeprefix("".join(each for _, each in got))
            lost = "".join(lost.split())
            assert any(marker.startswith(lost) for marker in FORMATS[form].markers), text[:end]


# A grammar has no room for a raw DEL, which JSON allows; models write none.
VALUES = st.text(st.characters(exclude_characters="\x7f", codec="utf-8"), max_size=12) | st.text(
    "</>{}[]()\"'\\`\n", max_size=12
)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": VALUES,
    "integer": st.integers(-(10**9), 10**9),
    "boolean": st.booleans(),
    "number": st.floats(-1e6, 1e6, allow_nan=False),
}


def kind_of(name: str) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    """A schema and the values that it allows."""
    return {"type": name}, SCALARS[name]


@st.composite
def calls(draw: st.DrawFn) -> tuple[ToolSpec, dict[str, Any]]:
    """A tool with any parameters, and arguments for it."""
    properties: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(["a", "b_c", "path", "n1"]), unique=True)):
        schema, values = kind_of(draw(st.sampled_from(sorted(SCALARS))))
        shape = draw(st.sampled_from(["one", "one", "list", "object"]))
        if shape == "list":
            schema, values = {"type": "array", "items": schema}, st.lists(values, max_size=3)
        elif shape == "object":
            schema = {"type": "object", "properties": {"k": schema}}
            values = st.fixed_dictionaries({"k": values})
        properties[name], arguments[name] = schema, draw(values)
    tool = draw(st.sampled_from(["Run", "mcp__x__get-it"]))
    return ToolSpec(tool, "", {"type": "object", "properties": properties}), arguments


def writable(form: ToolFormat, arguments: dict[str, Any]) -> bool:
    """Whether a format can tell where these values end: some have no way to quote."""
    text = json.dumps(arguments, ensure_ascii=False)
    if form.name in ("qwen3_coder", "minimax", "glm"):
        closing = {"qwen3_coder": "</parameter>", "minimax": "</parameter>", "glm": "</arg_value>"}
        return closing[form.name] not in text
    quote = {"function_gemma": "<escape>", "gemma4": '<|"|>'}.get(form.name)
    return quote is None or quote not in text


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=25)
@given(call=calls())
def test_every_format_reads_what_it_writes(
    form: ToolFormat, call: tuple[ToolSpec, dict[str, Any]]
) -> None:
    """Any arguments come back as they were, also one character at a time."""
    tool, arguments = call
    if not writable(form, arguments):
        return
    text = form.write_call(ToolUse("", tool.name, arguments))
    assert read(form.name, [text], (tool,)) == [(tool.name, arguments)]
    assert read(form.name, list(text), (tool,)) == [(tool.name, arguments)]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_every_format_describes_tools_and_results(form: ToolFormat) -> None:
    """The description names every tool, its parameters and the form; a failure says so."""
    text = form.describe(TOOLS)
    assert all(tool.name in text for tool in TOOLS) and '"file_path"' in text
    assert form.write_call(ToolUse("", "the tool", {"a parameter": "its value"})) in text
    failed = form.write_result(ToolResult("toolu_1", "gone", is_error=True))
    assert "gone" in failed and "error" in failed


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_template_that_shows_a_format_chooses_it(form: ToolFormat) -> None:
    """By the markers in it; by its name, any format can be chosen."""
    traits = TemplateTraits(has_tools=True, source=" ".join(("{% tools %}", *form.signs)))
    assert choose_format("auto", traits).name == form.name
    assert choose_format(form.name, TemplateTraits()) is form


def test_a_mended_call_says_so() -> None:
    """And one that was right does not."""
    for text, repaired in (
        ('<tool_call>{"name": "Read", "arguments": {"file_path": "a"}}</tool_call>', False),
        ("<tool_call>{'name': 'Read', 'arguments': {'file_path': 'a'}}</tool_call>", True),
        ('<tool_call>{"name": "Read", "arguments": {"file_path": 1}}</tool_call>', True),
    ):
        splitter = Splitter(Markers(), FORMATS["json_tags"], TOOLS)
        (end,) = [each for each in splitter.feed(text) if isinstance(each, ToolCallEnd)]
        assert (end.repaired, end.schema_valid) == (repaired, True)
