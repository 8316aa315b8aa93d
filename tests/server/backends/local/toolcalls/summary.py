"""The pieces of an answer in a form that is easy to compare."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import Piece
from mlxdeck.server.chat import TextDelta, ThinkingDelta, ToolCallDelta, ToolCallEnd, ToolCallStart

Summary = list[tuple[str, Any]]


def summary(pieces: Iterable[Piece]) -> Summary:
    """What came out, with adjoining text joined and calls as (name, arguments)."""
    out: Summary = []
    for piece in pieces:
        match piece:
            case TextDelta(text) | ThinkingDelta(text):
                kind = "text" if isinstance(piece, TextDelta) else "thinking"
                if out and out[-1][0] == kind:
                    out[-1] = (kind, f"{out[-1][1]}{text}")
                else:
                    out.append((kind, text))
            case ToolCallStart(id, name):
                assert id.startswith("toolu_")
                out.append((name, ""))
            case ToolCallDelta(text):
                out[-1] = (out[-1][0], f"{out[-1][1]}{text}")
            case ToolCallEnd():
                out[-1] = (out[-1][0], json.loads(str(out[-1][1])))
    return out
