"""The answers of OpenAI's chat completions, as a stream of chunks and as one body."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from mlxdeck.server.chat import (
    Event,
    Finished,
    Foreign,
    Ping,
    Started,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)
from mlxdeck.server.dialects.openai_chat.foreign_parts import added, beside, joined
from mlxdeck.server.dialects.openai_errors import error_body
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.dialects.surrogates import WholeEscapes
from mlxdeck.server.errors import ServerError

_DONE = b"data: [DONE]\n\n"
_REASONS: dict[StopReason, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "stop",
}


class OpenAIEncoder:
    """Writes one answer."""

    def __init__(self, message_id: str, model: str, *, usage: bool) -> None:
        """`usage` requests a last chunk with token counts."""
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{message_id.removeprefix('msg_')}",
            "created": int(time.time()),
            "model": model,
        }
        self._usage = usage
        self._n_calls = 0
        self._escapes = WholeEscapes()

    def encode(self, event: Event) -> bytes:
        """An event of the answer as chunks of the stream."""
        match event:
            case Started():
                return self._chunk({"role": "assistant", "content": ""})
            case Ping():
                # A comment: this API has no event without a meaning.
                return b": ping\n\n"
            case TextDelta(text):
                return self._chunk({"content": text})
            case ThinkingDelta(text):
                return self._chunk({"reasoning_content": text})
            case ToolCallStart(call_id, name):
                self._n_calls += 1
                function = {"name": name, "arguments": ""}
                call = {"id": call_id, "type": "function", "function": function}
                return self._call(call)
            case ToolCallDelta(text):
                return self._arguments(self._escapes.feed(text))
            case ToolCallEnd():
                return self._arguments(self._escapes.flush())
            case Foreign("openai", data):
                return self._chunk(data.get("delta") or {}, logprobs=data.get("logprobs"))
            case Finished():
                return self._arguments(self._escapes.flush()) + self._end(event)
        return b""

    def error(self, error: ServerError) -> bytes:
        """An error, as the last chunk of the stream."""
        return _data(error_body(error)) + _DONE

    def collect(self, events: Iterable[Event]) -> bytes:
        """The whole answer as one body."""
        said, thought = [], []
        calls: list[dict[str, Any]] = []
        own: dict[str, Any] = {}
        body: dict[str, Any] = {}
        for event in events:
            match event:
                case TextDelta(text):
                    said.append(text)
                case ThinkingDelta(text):
                    thought.append(text)
                case ToolCallStart(call_id, name):
                    function = {"name": name, "arguments": ""}
                    calls.append({"id": call_id, "type": "function", "function": function})
                case ToolCallDelta(text):
                    calls[-1]["function"]["arguments"] += text
                case Foreign("openai", data):
                    own = joined(own, data)
                case Finished(reason, usage):
                    message = _message("".join(said), "".join(thought), calls)
                    message = added(message, own.get("delta") or {})
                    fields, wire_reason = beside(event)
                    choice = {"index": 0, "message": message}
                    choice["finish_reason"] = wire_reason or _REASONS[reason]
                    body = {
                        **self._head,
                        "object": "chat.completion",
                        "choices": [{**choice, "logprobs": own.get("logprobs")}],
                        "usage": wire_usage(usage),
                        **fields,
                    }
        return to_json(body)

    def _arguments(self, text: str) -> bytes:
        return self._call({"function": {"arguments": text}}) if text else b""

    def _call(self, call: dict[str, Any]) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._n_calls - 1, **call}]})

    def _chunk(
        self, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return _data({**self._head, "object": "chat.completion.chunk", "choices": [choice]})

    def _end(self, event: Finished) -> bytes:
        fields, wire_reason = beside(event)
        self._head |= fields
        last = self._chunk({}, wire_reason or _REASONS[event.reason])
        if self._usage:
            empty = {**self._head, "object": "chat.completion.chunk", "choices": []}
            last += _data({**empty, "usage": wire_usage(event.usage)})
        return last + _DONE


def _message(said: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    for call in calls:
        call["function"]["arguments"] = _whole(call["function"]["arguments"])
    message: dict[str, Any] = {"role": "assistant", "content": said}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
        message["content"] = said or None
    return message


def _whole(arguments: str) -> str:
    escapes = WholeEscapes()
    return escapes.feed(arguments) + escapes.flush()


def wire_usage(usage: Usage) -> dict[str, Any]:
    """OpenAI counts cached tokens as a part of the prompt's. Unknown ones are 0 here."""
    n_input, n_output = usage.input_tokens or 0, usage.output_tokens or 0
    counted: dict[str, Any] = {
        "prompt_tokens": n_input,
        "completion_tokens": n_output,
        "total_tokens": n_input + n_output,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
    }
    if usage.reasoning_tokens is not None:
        counted["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.foreign and usage.foreign.dialect == "openai":
        counted |= usage.foreign.data
    return counted


def _data(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % to_json(body)
