"""A request's way in the log: one line a stage at level debug, and at trace the model's own text.

Prompts, answers and arguments are never in a line of level debug.
"""

from __future__ import annotations

import logging
from typing import Any

from mlxdeck.server.chat import Finished
from mlxdeck.server.log_format import TRACE
from mlxdeck.server.observe.request_start import Arrival
from mlxdeck.server.request_facts import BackendChosen, Forwarded, ModelText, Prepared, StreamItem
from mlxdeck.telemetry.redact import redacted_text
from mlxdeck.telemetry.schema import events as t

log = logging.getLogger("mlxdeck.request")

MAX_MESSAGE = 300
"""Characters of an error."""
MAX_TOLD = 1_000
"""Characters of a line of level debug."""
MAX_LINE = 4_000
"""Characters of the model's text in one line of the log."""


def request_log(arrival: Arrival) -> RequestLog | None:
    """The log of a request that has come in; None if the level leaves it out."""
    if not log.isEnabledFor(logging.DEBUG):
        return None
    found = RequestLog(arrival.request_id)
    found.say("received", arrival.dialect, f"{arrival.body_bytes} bytes")
    return found


class RequestLog:
    """Writes the lines of one request. For the event loop."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._text = ""

    def say(self, stage: str, *parts: str, level: int = logging.DEBUG) -> None:
        """Write a line; empty parts are left out. Only the model's own text is never masked."""
        told = ", ".join(filter(None, parts))
        if level >= logging.DEBUG:
            # Clients choose names of models and sessions: of any length, and perhaps a key.
            told = redacted_text(told[:MAX_TOLD])
        extra = {"request_id": self._request_id, "stage": stage}
        log.log(level, "%s %s: %s", self._request_id, stage, told, extra=extra)

    def saw(self, event: StreamItem) -> None:
        """Take what no telemetry event tells."""
        match event:
            case BackendChosen() if event.model:
                instead = f"instead of {event.fell_back_from} ({event.reason})"
                self.say("backend", event.backend, event.model, instead * bool(event.reason))
            case Prepared():
                new = event.prompt_tokens - event.cached_tokens
                self.say(
                    "queued",
                    f"{event.prompt_tokens} prompt tokens, {new} of them new",
                    f"tokenized in {_ms(event.tokenize_s)}",
                    event.unconstrained and f"unconstrained: {event.unconstrained}",
                )
            case Forwarded():
                self.say("forwarded", event.provider, event.model)
            case ModelText():
                self._wrote(event.text)
            case Finished():
                self._flush()

    def _wrote(self, text: str) -> None:
        *lines, self._text = (self._text + text).split("\n")
        for line in lines:
            self.say("wrote", line + "\n", level=TRACE)
        if len(self._text) > MAX_LINE:
            self._flush()

    def _flush(self) -> None:
        if self._text:
            self.say("wrote", self._text, level=TRACE)
            self._text = ""

    def emitted(self, attrs: t.Attrs) -> None:
        """Take an event of telemetry."""
        match attrs:
            case t.RequestStart() if attrs.model:
                self.say("decoded", *_request(attrs))
            case t.CacheLookup():
                self.say(f"{attrs.cache} cache", *_lookup(attrs))
            case t.FirstToken():
                waited = f"{_ms(attrs.queue_s)} in the queue, {_ms(attrs.prefill_s)} prefill"
                read = f"{attrs.prefill_tokens} tokens read" if attrs.prefill_tokens else ""
                self.say("first token", f"after {_ms(attrs.ttft_s)}", waited, read)
            case t.ToolCall():
                self.say("tool call", *_call(attrs))
            case t.Error():
                message = attrs.message[:MAX_MESSAGE]
                self.say("error", attrs.error_type, f"while it was in {attrs.phase}", message)
            case t.RequestEnd():
                self._flush()
                self.say("end", *_end(attrs))


def _request(start: t.RequestStart) -> list[str]:
    return [
        f"model {start.model}",
        f"{start.n_messages} messages",
        f"{start.n_tools} tools, tool choice {start.tool_choice}" if start.n_tools else "",
        f"at most {start.max_tokens} tokens" if start.max_tokens else "",
        "streamed" if start.stream else "whole",
        f"session {start.conversation_id}" if start.conversation_id else "",
        f"{start.queue_depth} waiting" if start.queue_depth else "",
        f"removed {' '.join(start.removed)}" if start.removed else "",
    ]


def _lookup(found: t.CacheLookup) -> list[str]:
    blame = f" at {found.diverged_block}" if found.diverged_block else ""
    return [
        found.result,
        f"tier {found.tier}" if found.tier else "",
        f"{found.matched_tokens} of {found.prompt_tokens} tokens" if found.prompt_tokens else "",
        f"{found.miss_reason}{blame}" if found.miss_reason else "",
        _ms(found.duration_s),
    ]


def _call(call: t.ToolCall) -> list[str]:
    if not call.parse_ok:
        return ["unreadable", f"format {call.parser}", f"{call.arguments_bytes} bytes"]
    return [
        call.name,
        f"format {call.parser}" if call.parser else "",
        f"{call.arguments_bytes} bytes",
        "repaired" if call.repaired else "",
        "not as its schema says" if call.schema_valid is False else "",
    ]


def _end(end: t.RequestEnd) -> list[str]:
    return [
        f"{end.outcome} {end.status}",
        f"after {_ms(end.duration_s)}",
        f"{end.input_tokens} tokens read" if end.input_tokens is not None else "",
        f"{end.output_tokens} written" if end.output_tokens is not None else "",
        f"finished by {' '.join(end.finish_reasons)}" if end.finish_reasons else "",
        f"ended by {end.ended_by}" if end.ended_by else "",
    ]


def _ms(seconds: Any) -> str:
    return "-" if seconds is None else f"{1000 * seconds:,.1f} ms"
