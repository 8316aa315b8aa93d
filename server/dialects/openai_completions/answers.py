"""The answers of OpenAI's completions, as a stream of chunks and as one body."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from mlxdeck.server.chat import Event, Finished, Ping, Started, StopReason, TextDelta, Usage
from mlxdeck.server.dialects.openai_chat.answers import wire_usage
from mlxdeck.server.dialects.openai_errors import error_body
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.errors import ServerError

_DONE = b"data: [DONE]\n\n"


class CompletionsEncoder:
    """Writes one answer."""

    def __init__(self, message_id: str, model: str, *, before: str, usage: bool) -> None:
        """`before` is said before the answer; `usage` requests a last chunk with token counts."""
        self._head: dict[str, Any] = {
            "id": f"cmpl-{message_id.removeprefix('msg_')}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._before = before
        self._usage = usage

    def encode(self, event: Event) -> bytes:
        """An event of the answer as chunks of the stream; only text is one."""
        match event:
            case Started():
                return self._chunk(self._before)
            case Ping():
                # A comment: this API has no event without a meaning.
                return b": ping\n\n"
            case TextDelta(text):
                return self._chunk(text)
            case Finished(reason, usage):
                return self._chunk("", _reason(reason)) + self._end(usage)
        return b""

    def error(self, error: ServerError) -> bytes:
        """An error, as the last chunk of the stream."""
        return _data(error_body(error)) + _DONE

    def collect(self, events: Iterable[Event]) -> bytes:
        """The whole answer as one body."""
        said = [self._before]
        body: dict[str, Any] = {}
        for event in events:
            if isinstance(event, TextDelta):
                said.append(event.text)
            elif isinstance(event, Finished):
                choices = _choices("".join(said), _reason(event.reason))
                body = {**self._head, "choices": choices, "usage": wire_usage(event.usage)}
        return to_json(body)

    def _chunk(self, text: str, reason: str | None = None) -> bytes:
        return _data({**self._head, "choices": _choices(text, reason)})

    def _end(self, usage: Usage) -> bytes:
        if not self._usage:
            return _DONE
        return _data({**self._head, "choices": [], "usage": wire_usage(usage)}) + _DONE


def _choices(text: str, reason: str | None) -> list[dict[str, Any]]:
    return [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}]


def _reason(reason: StopReason) -> str:
    return "length" if reason == "max_tokens" else "stop"


def _data(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % to_json(body)
