"""Calls with long arguments: what they take grows with their length, and no faster."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import ToolCallDelta, ToolCallEnd, ToolSpec, ToolUse

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
