"""Reader, writer and grammar of a format are one description, for random schemas and values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.messages import ToolCallEnd, ToolSpec, ToolUse
from mlxdeck.server.toolcalls.formats import FORMATS
from mlxdeck.server.toolcalls.formats.form import Form
from mlxdeck.server.toolcalls.splitter import Markers, Splitter
from tests.server.toolcalls.shapes import tools
from tests.server.toolcalls.summary import summary
from tests.server.toolcalls.test_grammar import accepts

TOOL_CALL = tuple[ToolSpec, dict[str, Any]]


def read(
    form: Form, chunks: list[str], tool: ToolSpec, *, held: bool = False
) -> tuple[list[tuple[str, Any]], list[ToolCallEnd]]:
    """What comes out of an answer in pieces."""
    splitter = Splitter(Markers("<think>", "</think>"), form, [tool], constrained=held)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    pieces += splitter.close(complete=True)
    assert not splitter.broken
    return summary(pieces), [piece for piece in pieces if isinstance(piece, ToolCallEnd)]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=20)
@given(call=tools(), data=st.data())
def test_what_is_written_is_read(form: Form, call: TOOL_CALL, data: st.DataObject) -> None:
    """Whatever the texts hold: whole, cut in two, and letter by letter."""
    tool, arguments = call
    text = form.write_call(ToolUse("", tool.name, arguments), tool)
    cut = data.draw(st.integers(0, len(text)))
    for chunks in ([text], [text[:cut], text[cut:]], list(text)):
        found, ends = read(form, chunks, tool)
        assert found == [(tool.name, arguments)], text
        assert json.dumps(found[0][1]) == json.dumps(arguments)
        assert [end.schema_valid for end in ends] == [True]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=15)
@given(call=tools())
def test_what_is_written_is_of_the_grammar(form: Form, call: TOOL_CALL) -> None:
    """And what a held model has written is read as what the grammar meant."""
    tool, arguments = call
    text = form.write_call(ToolUse("", tool.name, arguments), tool)
    grammar = form.grammar([tool], marked=True)
    assert grammar is not None
    assert accepts(grammar, text), (text, grammar)
    for chunks in ([text], list(text)):
        found, (end,) = read(form, chunks, tool, held=True)
        assert found == [(tool.name, arguments)], text
        assert (end.constrained, end.schema_valid) == (True, True)
