"""Reader, writer and grammar of a format are one description, for random schemas and values."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import ToolCallEnd, ToolSpec, ToolUse
from tests.server.backends.local.toolcalls.shapes import tools
from tests.server.backends.local.toolcalls.summary import summary
from tests.server.backends.local.toolcalls.test_grammar import accepts, matcher

TOOL_CALL = tuple[ToolSpec, dict[str, Any]]


def read(
    form: ToolFormat, chunks: list[str], tool: ToolSpec, *, held: bool = False
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
def test_what_is_written_is_read(form: ToolFormat, call: TOOL_CALL, data: st.DataObject) -> None:
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
def test_what_is_written_is_of_the_grammar(form: ToolFormat, call: TOOL_CALL) -> None:
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


# What a model writes that is held to a grammar: often what ends a value, or looks as if it did.
SPEECH = (
    *(b"\n</parameter>\n", b"</parameter>\n", b"</arg_value>\n", b"<escape>", b'<|"|>', b'"'),
    *(b'"}', b"]", b"\n", b"null", b"5", b'"5"', b"true", b"\n</parameter>\n<parameter=b>\n"),
)
MAX_BYTES = 600


def wander(grammar: str, random: Random) -> bytes:
    """A whole text of a grammar, said at random; empty if none has come of it."""
    found, said, meant = matcher(grammar), b"", b""
    while len(said) < MAX_BYTES and not (
        found.is_accepting() and (found.is_stopped() or random.random() < 0.5)
    ):
        bits = np.frombuffer(found.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[:256]).tolist()
        if not allowed:
            break
        if not meant and len(allowed) > 20 and random.random() < 0.4:
            meant = random.choice(SPEECH)
        if not meant or meant[0] not in allowed:
            meant = bytes([random.choice([b for b in allowed if 32 <= b < 127] or allowed)])
        assert found.consume_tokens([meant[0]])
        said, meant = said + meant[:1], meant[1:]
    return said if found.is_accepting() else b""


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@settings(max_examples=8)
@given(call=tools(), seed=st.integers(0, 999))
def test_what_the_grammar_accepts_conforms(form: ToolFormat, call: TOOL_CALL, seed: int) -> None:
    """A held model can't write a call that does not, whatever it says."""
    tool, _ = call
    grammar = form.grammar([tool], marked=True)
    assert grammar is not None
    text = wander(grammar, Random(seed)).decode()
    for chunks in ([text], list(text)) if text else ():
        found, (end,) = read(form, chunks, tool, held=True)
        assert [name for name, _ in found] == ["Run"], text
        assert (end.constrained, end.schema_valid) == (True, True), text
