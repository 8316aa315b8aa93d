"""The answers of Anthropic's Messages API, as a stream of events and as one body.

A block opens with its first delta and closes before the next block. Indexes are contiguous and
never overlap: Claude Code requires this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlxdeck.server.chat import (
    Event,
    Finished,
    Foreign,
    Ping,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from mlxdeck.server.dialects.anthropic.whole_message import EMPTY, SIGNATURE, WholeMessage
from mlxdeck.server.dialects.sse import sse, to_json
from mlxdeck.server.dialects.surrogates import WholeEscapes
from mlxdeck.server.errors import ServerError

CONTEXT = "context_management"
"""What stands beside the delta at the end of a stream, and not in it."""


class AnthropicEncoder:
    """Writes one answer."""

    def __init__(self, message_id: str, model: str) -> None:
        self._message_id = message_id
        self._model = model
        self._index = -1
        self._open = ""
        self._is_foreign = False
        """Whether the open block was opened in its maker's own words."""
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
                if self._is_foreign and self._open == "tool_use":
                    return b""
                return self._start({"type": "tool_use", "id": call_id, "name": name, "input": {}})
            case ToolCallDelta(text):
                return self._arguments(self._escapes.feed(text))
            case Foreign(dialect, data):
                return self._foreign(data) if dialect == "anthropic" else b""
            case Finished():
                return self._stop() + self._end(event)
        return self._stop()

    def error(self, error: ServerError) -> bytes:
        """An error, as the last event of the stream."""
        return sse("error", error_body(error))

    def collect(self, events: Iterable[Event]) -> bytes:
        """The whole answer as one body."""
        whole = WholeMessage()
        body: dict[str, Any] = {}
        for event in events:
            whole.add(event)
            if isinstance(event, Finished):
                whole.cut()
                body = self._head(event.usage)
                body |= {"content": whole.content, **_ending(event)}
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

    def _foreign(self, data: Mapping[str, Any]) -> bytes:
        match data:
            case {"type": "content_block_start", "content_block": {"type": str()} as block}:
                started = self._start(block)
                self._is_foreign = True
                return started
            case {"type": "content_block_delta", "delta": delta} if self._open:
                event = {"type": "content_block_delta", "index": self._index, "delta": delta}
                return sse("content_block_delta", event)
            case {"type": "content_block_stop"}:
                return self._stop()
        return b""

    def _delta(self, kind: str, delta: dict[str, Any]) -> bytes:
        started = b"" if self._open == kind else self._start(dict(EMPTY[kind]))
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
        if self._open == "thinking" and not self._is_foreign:
            last = self._delta("thinking", {"type": "signature_delta", "signature": SIGNATURE})
        self._open, self._is_foreign = "", False
        return last + sse(
            "content_block_stop", {"type": "content_block_stop", "index": self._index}
        )

    def _end(self, event: Finished) -> bytes:
        usage = wire_usage(event.usage)
        delta = _ending(event)
        beside = {"context_management": delta.pop(CONTEXT)} if CONTEXT in delta else {}
        last = {"type": "message_delta", "delta": delta, "usage": usage, **beside}
        end = sse("message_delta", last)
        return end + sse("message_stop", {"type": "message_stop"})


def wire_usage(usage: Usage) -> dict[str, Any]:
    """Anthropic counts cached tokens beside `input_tokens`, not as a part of them.

    It has no word for unknown: that is 0 here.
    """
    n_cached = usage.cached_tokens or 0
    counted = {
        "input_tokens": (usage.input_tokens or n_cached) - n_cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": n_cached,
        "output_tokens": usage.output_tokens or 0,
    }
    return counted | _own(usage.foreign)


def _ending(event: Finished) -> dict[str, Any]:
    ending = {"stop_reason": event.reason, "stop_sequence": event.stop_sequence}
    return ending | _own(event.foreign)


def _own(foreign: Foreign | None) -> dict[str, Any]:
    return foreign.data if foreign and foreign.dialect == "anthropic" else {}


def error_body(error: ServerError) -> dict[str, Any]:
    """An error in the API's own shape, https://docs.anthropic.com/en/api/errors."""
    return {"type": "error", "error": {"type": error.kind, "message": error.message}}
