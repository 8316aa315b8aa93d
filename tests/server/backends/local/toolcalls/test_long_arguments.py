"""Calls with long arguments: what they take grows with their length, and no faster."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.reading import stream_reader
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import StreamReader
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import TextDelta, ToolCallDelta, ToolCallEnd, ToolSpec, ToolUse

CODE = 'def f(x):\n    return {"a": [x, "</b>"]}  # \\ <tag> é\n'
TOOL = ToolSpec("Write", "", {"type": "object", "properties": {"content": {"type": "string"}}})


def work(name: str, n_chars: int, *, constrained: bool) -> int:
    """Calls of functions for arguments of that length."""
    content = (CODE * (n_chars // len(CODE) + 1))[:n_chars]
    form = FORMATS[name]
    text = form.write_call(ToolUse("id", "Write", {"content": content}))
    splitter = Splitter(Markers("", ""), form, (TOOL,), constrained=constrained)
    n_calls = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal n_calls
        del frame
        n_calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        pieces = [
            piece for at in range(0, len(text), 4) for piece in splitter.feed(text[at : at + 4])
        ]
        pieces += splitter.close(complete=True)
    finally:
        sys.setprofile(None)
    said = "".join(piece.json for piece in pieces if isinstance(piece, ToolCallDelta))
    assert len(said) > n_chars * 0.9
    assert any(isinstance(piece, ToolCallEnd) for piece in pieces)
    return n_calls


@pytest.mark.parametrize("constrained", [False, True], ids=["free", "held"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_work_grows_with_the_length_alone(name: str, constrained: bool) -> None:
    """Twice as long is twice the work, whatever the format."""
    short, long = (work(name, n, constrained=constrained) for n in (2_000, 8_000))
    assert long < 5 * short


@settings(deadline=None)
@given(
    st.text("ab\n", max_size=30),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=12),
    st.integers(0, 3),
)
def test_what_was_put_aside_can_be_read_again(
    text: str, moves: list[tuple[int, int]], kept: int
) -> None:
    """From any place, as if nothing had been put aside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_reader, "_KEPT_CHARS", kept)
        reader, arrived, at = StreamReader(), "", 0
        for n_chars, place in moves:
            reader.feed(text[len(arrived) : len(arrived) + n_chars])
            arrived = text[: len(arrived) + n_chars]
            taken = reader.take(n_chars)
            assert taken == arrived[at : at + n_chars]
            at += len(taken)
            assert (reader.place, reader.held) == (at, arrived[at:])
            back = min(place, at)
            assert reader.since(back) == arrived[back:at]
            if place % 3 == 0:
                reader.back(back)
                at = back


def test_a_text_that_has_been_read_is_not_copied_with_each_token() -> None:
    """However long it gets."""
    reader = StreamReader()
    for _ in range(10_000):
        reader.feed("word ")
        reader.take(5)
        assert len(reader._text) <= stream_reader._KEPT_CHARS + 10
    assert len(reader.since(0)) == 50_000


def test_a_text_that_came_at_once_is_seldom_copied() -> None:
    """However many markers are in it, as when a file is parsed."""
    reader = StreamReader("<a>" * 20_000)
    texts = [reader._text]
    for n in range(1, 20_001):
        assert reader.certain("<a>", "<b>") == ("", "<a>")
        reader.forget()
        assert reader.place == 3 * n
        if reader._text is not texts[-1]:
            texts.append(reader._text)
    assert len(texts) < 10 and len(reader._text) <= 2 * stream_reader._KEPT_CHARS


def test_pieces_of_text_are_sent_as_one() -> None:
    """They are put together once, on their way out."""
    emitter = CallEmitter("json_tags", (TOOL,), constrained=False)
    for text in ("\n", "a", "b", ""):
        emitter.text(text)
    emitter.put(TOOL, {}, repaired=False)
    emitter.text("c")
    first, *_, last = emitter.drain()
    assert (first, last) == (TextDelta("ab"), TextDelta("c"))
    assert emitter.drain() == []
