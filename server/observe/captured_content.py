"""The parts of a conversation for `--capture full`: each part once a file, by its hash.

A client sends the whole conversation with each turn. Writing only new parts makes a file as long as
the conversation, not as its square. The writer knows which parts its file holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from mlxdeck.server.chat import (
    Block,
    ChatRequest,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    ToolSpec,
    ToolUse,
)
from mlxdeck.server.joined_events import JoinedEvents
from mlxdeck.server.request_facts import Digests
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.write.records import Part

HASH_DIGITS = 12
LAST_USER_CHARS = 10_000
"""That are looked at for secrets; fewer are kept."""


def parts_of(request: ChatRequest, digests: Digests) -> Iterator[Part]:
    """The parts of a conversation, as far as it has them; made when they are written."""
    found = [("system", "system", digests.system, partial(_as_json_of, list, request.system))]
    found += [("tools", "", digests.tools, partial(_as_json_of, _tools, request.tools))]
    for kind, role, digest, text in found:
        if digest:
            yield Part(kind, role, digest[:HASH_DIGITS], text)
    for each, digest in zip(request.messages, digests.messages, strict=True):
        text = partial(_as_json_of, _blocks, each.blocks)
        yield Part("message", each.role, digest[:HASH_DIGITS], text)


def _as_json_of(make: Callable[[Any], Any], value: Any) -> str:
    return as_json(make(value))


def _tools(tools: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    return [
        {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
        for tool in tools
    ]


def _blocks(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    return [_block(block) for block in blocks]


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


def answer(said: JoinedEvents) -> t.Content:
    """The answer, from the events that were sent."""
    blocks: list[dict[str, Any]] = []
    for event in said.events:
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
        text = json.dumps(value, ensure_ascii=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def last_user_text(request: ChatRequest) -> str:
    """The user's last text, shortened."""
    for message in reversed(request.messages):
        texts = [block.text for block in message.blocks if isinstance(block, Text)]
        if message.role == "user" and texts:
            return texts[-1][:LAST_USER_CHARS]
    return ""
