"""An answer of Anthropic's Messages API, read into events as it comes.

Format: https://docs.anthropic.com/en/api/messages-streaming. Text, thinking and calls become our
own events. All else goes to Anthropic's clients as it came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlxdeck.server.backends.upstream.judge import JudgedCalls
from mlxdeck.server.backends.upstream.reading import OutOfOrder, count_of
from mlxdeck.server.chat import (
    Finished,
    Foreign,
    Ping,
    Started,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolSpec,
    Usage,
)
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.request_facts import StreamItem

NAME = "anthropic"
CONTEXT = "context_management"
_REASONS: Mapping[str, StopReason] = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
    "pause_turn": "pause_turn",
    "model_context_window_exceeded": "max_tokens",
}
_OWN_WORDS = {"text": "text", "thinking": "thinking"}
"""Blocks that our events know, and the field that holds their text."""


class AnthropicReader:
    """Reads one answer."""

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        self._calls = JudgedCalls(NAME, tools)
        self._usage: dict[str, Any] = {}
        self._kind = ""
        """Type of the open block."""
        self._index: Any = None
        self._ending: dict[str, Any] | None = None
        self.model = ""
        self.is_ending = False
        self.is_started = False
        self.is_done = False

    def read(self, event: dict[str, Any]) -> Iterator[StreamItem]:
        """What one event of the stream says.

        Raises:
            OutOfOrder: It has no place here, or lacks what it is for.
        """
        kind = event.get("type")
        if kind == "ping":
            yield Ping()
        elif kind == "message_start":
            yield self._start(event)
        elif not self.is_started:
            raise OutOfOrder(f"{str(kind)[:50]!r} came before 'message_start'")
        elif kind == "content_block_start":
            yield from self._open(event)
        elif kind == "content_block_delta":
            yield from self._delta(event)
        elif kind == "content_block_stop":
            yield from self._close(event)
        elif kind == "message_delta":
            self._end(event)
        elif kind == "message_stop":
            yield from self._finish()

    def whole(self, message: dict[str, Any]) -> Iterator[StreamItem]:
        """An answer that came as one body.

        Raises:
            OutOfOrder: It is no message.
        """
        content = message.get("content")
        if message.get("type") != "message" or not isinstance(content, list):
            raise OutOfOrder("the body is no message")
        yield from self.read({"type": "message_start", "message": message})
        for index, block in enumerate(content):
            yield from self.read(
                {"type": "content_block_start", "index": index, "content_block": block}
            )
            yield from self.read({"type": "content_block_stop", "index": index})
        head = ("id", "type", "role", "model", "content", "usage")
        delta = {key: value for key, value in message.items() if key not in head}
        yield from self.read({"type": "message_delta", "delta": delta, "usage": {}})
        yield from self.read({"type": "message_stop"})

    def close(self) -> Iterator[StreamItem]:
        """The stream has ended, and the message had not."""
        raise OutOfOrder("it ends before 'message_stop'")

    def _start(self, event: dict[str, Any]) -> Started:
        if self.is_started:
            raise OutOfOrder("a second 'message_start' came")
        message = _dict(event, "message")
        self.is_started = True
        self.model = str(message.get("model") or "")
        self._add_usage(message.get("usage"))
        return Started(self._counted())

    def _open(self, event: dict[str, Any]) -> Iterator[StreamItem]:
        if self._kind:
            raise OutOfOrder("a block began within another")
        block = _dict(event, "content_block")
        self._kind, self._index = str(block.get("type")), event.get("index")
        if self._kind == "tool_use":
            yield from self._call(block)
            return
        field = _OWN_WORDS.get(self._kind, "")
        text = block.get(field)
        yield Foreign(NAME, _piece(event, content_block={**block, field: ""} if text else block))
        if isinstance(text, str) and text:
            yield TextDelta(text) if self._kind == "text" else ThinkingDelta(text)

    def _call(self, block: dict[str, Any]) -> Iterator[StreamItem]:
        call_id, name, given = block.get("id"), block.get("name"), block.get("input")
        if not isinstance(call_id, str) or not isinstance(name, str) or not name:
            raise OutOfOrder("a call came without a name or an id")
        if block.keys() - {"type", "id", "name", "input"}:
            start = {"type": "content_block_start", "content_block": {**block, "input": {}}}
            yield Foreign(NAME, start)
        yield self._calls.start(call_id, name)
        if isinstance(given, dict) and given:
            yield self._calls.piece(to_json(given).decode())

    def _delta(self, event: dict[str, Any]) -> Iterator[StreamItem]:
        delta = _dict(event, "delta")
        if not self._kind or event.get("index") != self._index:
            raise OutOfOrder("a delta came for a block that is not open")
        match self._kind, delta:
            case "text", {"type": "text_delta", "text": str(text)}:
                yield TextDelta(text)
            case "thinking", {"type": "thinking_delta", "thinking": str(text)}:
                yield ThinkingDelta(text)
            case "tool_use", {"type": "input_json_delta", "partial_json": str(text)}:
                if text:
                    yield self._calls.piece(text)
            case _, {"type": "text_delta" | "thinking_delta"}:
                raise OutOfOrder(f"{delta['type']} came in a block of type {self._kind[:50]!r}")
            case _:
                yield Foreign(NAME, _piece(event, delta=delta))

    def _close(self, event: dict[str, Any]) -> Iterator[StreamItem]:
        if not self._kind or event.get("index") != self._index:
            raise OutOfOrder("a block ended that is not open")
        kind, self._kind = self._kind, ""
        if kind == "tool_use":
            yield from self._calls.end()
        else:
            yield Foreign(NAME, {"type": "content_block_stop"})

    def _end(self, event: dict[str, Any]) -> None:
        if self._kind:
            raise OutOfOrder("the message ended within a block")
        beside = {CONTEXT: event[CONTEXT]} if event.get(CONTEXT) else {}
        self._ending = (self._ending or {}) | _dict(event, "delta") | beside
        self._add_usage(event.get("usage"))

    def _finish(self) -> Iterator[StreamItem]:
        ending = self._ending or {}
        reason, sequence = ending.pop("stop_reason", None), ending.pop("stop_sequence", None)
        if self._kind or not isinstance(reason, str):
            raise OutOfOrder("the answer ended without a stop reason")
        own = {key: value for key, value in ending.items() if value is not None}
        known = _REASONS.get(reason)
        if known != reason:
            own["stop_reason"] = reason
        self.is_done = True
        yield Finished(
            known or "end_turn",
            self._counted(),
            sequence if isinstance(sequence, str) else None,
            n_bad_calls=self._calls.n_bad,
            foreign=Foreign(NAME, own) if own else None,
        )

    def _add_usage(self, told: Any) -> None:
        if isinstance(told, dict):
            # Counts are totals; what is left out stays as it was.
            self._usage |= {key: value for key, value in told.items() if value is not None}

    def _counted(self) -> Usage:
        told = self._usage
        n_new, n_read = count_of(told, "input_tokens"), count_of(told, "cache_read_input_tokens")
        n_written = count_of(told, "cache_creation_input_tokens") or 0
        n_input = None if n_new is None else n_new + (n_read or 0) + n_written
        return Usage(
            n_input,
            n_read,
            count_of(told, "output_tokens"),
            count_of(told.get("output_tokens_details"), "thinking_tokens"),
            Foreign(NAME, dict(told)) if told else None,
        )


def _piece(event: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An event without its index, which our own encoder counts."""
    return {"type": event["type"], **fields}


def _dict(fields: dict[str, Any], key: str) -> dict[str, Any]:
    value = fields.get(key)
    if not isinstance(value, dict):
        raise OutOfOrder(f"{str(fields.get('type'))[:50]!r} came without {key!r}")
    return value
