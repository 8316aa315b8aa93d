"""A tool call as its event."""

from __future__ import annotations

import hashlib

from mlxdeck.server.chat import ToolCallEnd, ToolCallStart
from mlxdeck.server.joined_text import JoinedText
from mlxdeck.server.observe.captured_content import HASH_DIGITS
from mlxdeck.telemetry.schema import events as t


def call_event(
    start: ToolCallStart,
    arguments: JoinedText,
    end: ToolCallEnd,
    *,
    index: int,
    unconstrained: str,
    captured: bool,
) -> t.ToolCall:
    """What is recorded of it; `captured` includes its arguments."""
    text = arguments.text
    raw = text.encode("utf-8", "surrogatepass")
    return t.ToolCall(
        name=start.name,
        call_id=start.id,
        index=index,
        parser=end.format,
        constrained=end.constrained,
        unconstrained=unconstrained,
        repaired=end.repaired,
        schema_valid=end.schema_valid,
        arguments_bytes=len(raw),
        arguments_hash=hashlib.sha256(raw).hexdigest()[:HASH_DIGITS],
        arguments=text if captured else "",
    )
