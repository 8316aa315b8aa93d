"""What a conversation says, for `--capture full`: each part once a stream, by its hash.

A client sends the whole conversation with each turn; telling only what is new keeps the stream as
long as the conversation instead of its square.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from mlxdeck.server.chat import (
    Block,
    ChatRequest,
    Event,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    ToolUse,
)
from mlxdeck.server.request_facts import Digests
from mlxdeck.telemetry.schema import events as t

HASH_DIGITS = 12
MAX_SEEN = 200_000
LAST_USER_CHARS = 2_000


class CapturedParts:
    """The parts that a stream has told already."""

    def __init__(self) -> None:
        self._hashes: set[str] = set()

    def new_parts(self, request: ChatRequest, parts: Digests) -> Iterator[t.Content]:
        """The parts of a request that have not been told; they count as told from now on."""
        if len(self._hashes) > MAX_SEEN:
            self._hashes.clear()
        for kind, role, digest, value in _parts_of(request, parts):
            if digest and digest not in self._hashes:
                self._hashes.add(digest)
                yield t.Content(
                    kind=kind, role=role, hash=digest[:HASH_DIGITS], content=as_json(value)
                )


def _parts_of(request: ChatRequest, parts: Digests) -> Iterator[tuple[str, str, str, Any]]:
    yield "system", "system", parts.system, list(request.system)
    tools = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
        for tool in request.tools
    ]
    yield "tools", "", parts.tools, tools
    for message, digest in zip(request.messages, parts.messages, strict=True):
        yield "message", message.role, digest, [_block(block) for block in message.blocks]


def _block(block: Block) -> dict[str, Any]:
    """As Anthropic's API writes it."""
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    if isinstance(block, Thinking):
        return {"type": "thinking", "thinking": block.text}
    if isinstance(block, ToolUse):
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input}
    result = {"type": "tool_result", "tool_use_id": block.tool_use_id, "content": block.text}
    return {**result, "is_error": True} if block.is_error else result


def answer(events: Iterable[Event]) -> t.Content:
    """What was answered, of the events that went out."""
    blocks: list[dict[str, Any]] = []
    for event in events:
        last = blocks[-1] if blocks else {"type": ""}
        match event:
            case TextDelta(text):
                if last["type"] != "text":
                    blocks.append({"type": "text", "text": ""})
                blocks[-1]["text"] += text
            case ThinkingDelta(text):
                if last["type"] != "thinking":
                    blocks.append({"type": "thinking", "thinking": ""})
                blocks[-1]["thinking"] += text
            case ToolCallStart(call_id, name):
                blocks.append({"type": "tool_use", "id": call_id, "name": name, "input": ""})
            case ToolCallDelta(text) if last["type"] == "tool_use":
                last["input"] += text
    return t.Content(kind="answer", role="assistant", content=as_json(blocks))


def as_json(value: Any) -> str:
    """A value as JSON text."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        # Half a surrogate pair, as a model may write it.
        return repr(value)


def last_user_text(request: ChatRequest) -> str:
    """What the user said last, cut short."""
    for message in reversed(request.messages):
        texts = [block.text for block in message.blocks if isinstance(block, Text)]
        if message.role == "user" and texts:
            return texts[-1][:LAST_USER_CHARS]
    return ""
