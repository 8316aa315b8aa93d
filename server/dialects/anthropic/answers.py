"""The answers of Anthropic's Messages API, as a stream of events and as one body.

A block opens with its first delta and closes before the next block. Indexes are contiguous and
never overlap: Claude Code requires this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from mlxdeck.server.chat import (
    Event,
    Finished,
    Ping,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)
from mlxdeck.server.dialects.sse import sse, to_json
from mlxdeck.server.dialects.surrogates import WholeEscapes, whole_value
from mlxdeck.server.errors import ServerError

SIGNATURE = "bWx4ZGVjaw=="
"""Thinking blocks must carry one. Nothing here verifies it: it is the word mlxdeck in base64."""

_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class AnthropicEncoder:
    """Writes one answer."""

    def __init__(self, message_id: str, model: str) -> None:
        self._message_id = message_id
        self._model = model
        self._index = -1
        self._open = ""
        self._escapes = WholeEscapes()

    def encode(self, event: Event) -> bytes:
        """An event of the answer as events of the stream."""
        match event:
            case Started(usage):
                return sse("message_start", {"type": "message_start", "message": self._head(usage)})
            case Ping():
                return sse("ping", {"type": "ping"})
            case TextDelta(text):
                return self._delta("text", {"type": "text_delta", "text": text})
            case ThinkingDelta(text):
                return self._delta("thinking", {"type": "thinking_delta", "thinking": text})
            case ToolCallStart(call_id, name):
                return self._start({"type": "tool_use", "id": call_id, "name": name, "input": {}})
            case ToolCallDelta(text):
                return self._arguments(self._escapes.feed(text))
            case Finished():
                return self._stop() + self._end(event)
        return self._stop()

    def error(self, error: ServerError) -> bytes:
        """An error, as the last event of the stream."""
        return sse("error", error_body(error))

    def collect(self, events: Iterable[Event]) -> bytes:
        """The whole answer as one body."""
        content: list[dict[str, Any]] = []
        arguments: str | None = None
        body: dict[str, Any] = {}
        for event in events:
            match event:
                case TextDelta(text):
                    _grow(content, "text", text)
                case ThinkingDelta(text):
                    _grow(content, "thinking", text)
                    content[-1]["signature"] = SIGNATURE
                case ToolCallStart(call_id, name):
                    arguments = ""
                    content.append({"type": "tool_use", "id": call_id, "name": name, "input": {}})
                case ToolCallDelta(text):
                    arguments = (arguments or "") + text
                case ToolCallEnd():
                    content[-1]["input"] = whole_value(json.loads(arguments or "{}"))
                    arguments = None
                case Finished(reason, usage, stop_sequence):
                    if arguments is not None:
                        # Cut off by the token limit: half an object is text, and no call.
                        cut = content.pop()
                        _grow(content, "text", f"{cut['name']} {arguments}")
                    body = self._head(usage)
                    body |= {"content": content, "stop_reason": reason}
                    body["stop_sequence"] = stop_sequence
        return to_json(body)

    def _head(self, usage: Usage) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": wire_usage(usage),
        }

    def _start(self, block: dict[str, Any]) -> bytes:
        stopped = self._stop()
        self._index += 1
        self._open = block["type"]
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return stopped + sse("content_block_start", start)

    def _delta(self, kind: str, delta: dict[str, Any]) -> bytes:
        started = b"" if self._open == kind else self._start(_EMPTY[kind])
        event = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return started + sse("content_block_delta", event)

    def _arguments(self, text: str) -> bytes:
        if not text:
            return b""
        return self._delta("tool_use", {"type": "input_json_delta", "partial_json": text})

    def _stop(self) -> bytes:
        if not self._open:
            return b""
        last = self._arguments(self._escapes.flush())
        if self._open == "thinking":
            last = self._delta("thinking", {"type": "signature_delta", "signature": SIGNATURE})
        self._open = ""
        return last + sse(
            "content_block_stop", {"type": "content_block_stop", "index": self._index}
        )

    def _end(self, event: Finished) -> bytes:
        delta = {"stop_reason": event.reason, "stop_sequence": event.stop_sequence}
        usage = wire_usage(event.usage)
        end = sse("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
        return end + sse("message_stop", {"type": "message_stop"})


def wire_usage(usage: Usage) -> dict[str, int]:
    """Anthropic counts cached tokens beside `input_tokens`, not as a part of them."""
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }


def error_body(error: ServerError) -> dict[str, Any]:
    """An error in the API's own shape, https://docs.anthropic.com/en/api/errors."""
    return {"type": "error", "error": {"type": error.kind, "message": error.message}}


def _grow(content: list[dict[str, Any]], kind: str, text: str) -> None:
    if not content or content[-1]["type"] != kind:
        content.append(dict(_EMPTY[kind]))
    content[-1][kind] += text
