"""The answers of OpenAI's responses, as a stream of events and as one body.

Both are made in one way: the body is what the last event of the stream holds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

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
from mlxdeck.server.dialects.base import StoredAnswer
from mlxdeck.server.dialects.openai_errors import error_code
from mlxdeck.server.dialects.openai_responses.answer_form import AnswerForm
from mlxdeck.server.dialects.openai_responses.output_items import (
    CallItem,
    ItemEvent,
    MessageItem,
    OutputItem,
    ReasoningItem,
)
from mlxdeck.server.dialects.openai_responses.tools import ServedTool
from mlxdeck.server.dialects.sse import sse, to_json
from mlxdeck.server.errors import Cancelled, ServerError

_SHORT_ECHO = to_json({"parallel_tool_calls": True, "tool_choice": "auto", "tools": []})
"""What the SDK's type demands, for events that only say that the answer is under way."""
_NO_USE = "invalid_prompt"
"""The API's code for what fails again if it is sent again."""
RESPONSE = "resp_"
"""Begins the id of an answer; ids of its items have the same middle."""


class ResponsesEncoder:
    """Writes one answer."""

    def __init__(self, message_id: str, model: str, form: AnswerForm) -> None:
        self._name = message_id.removeprefix("msg_")
        self._model, self._form = model, form
        self._created_s = int(time.time())
        self._completed_s: int | None = None
        self._status = ""
        self._usage: Usage | None = None
        self._error: dict[str, Any] | None = None
        self._output: list[dict[str, Any]] = []
        self._item: OutputItem | None = None
        self._n_events = 0

    def encode(self, event: Event) -> bytes:
        """An event of the answer as events of the stream."""
        return b"".join(self._events(event))

    def _events(self, event: Event) -> Iterator[bytes]:
        match event:
            case Started():
                yield from self._begin()
            case Ping():
                # A comment would not keep clients from giving up: they wait for events.
                yield self._lifecycle("in_progress", echo=_SHORT_ECHO)
            case TextDelta(text):
                yield from self._more(MessageItem, text)
            case ThinkingDelta(text):
                yield from self._more(ReasoningItem, text)
            case ToolCallStart(call_id, name):
                yield from self._leave()
                yield from self._open(self._call(call_id, name))
            case ToolCallDelta(text):
                if self._item is not None:
                    yield from map(self._of_item, self._item.delta(text))
            case ToolCallEnd():
                yield from self._close("completed")
            case Finished():
                yield from self._finish(event)

    def _finish(self, event: Finished) -> Iterator[bytes]:
        status = "incomplete" if event.reason == "max_tokens" else "completed"
        yield from self._leave(status)
        self._status, self._usage = status, event.usage
        if status == "completed":
            self._completed_s = int(time.time())
        yield self._lifecycle(status)

    def error(self, error: ServerError) -> bytes:
        """An error, as the last event of the stream."""
        code, message = _stream_code(error), error.message
        begun = b"" if self._status else b"".join(self._begin())
        self._status, self._error = "failed", {"code": code, "message": message}
        return begun + self._lifecycle("failed")

    def collect(self, events: Iterable[Event]) -> bytes:
        """The whole answer as one body."""
        for event in events:
            for _ in self._events(event):
                pass
        return self._body()

    def stored(self) -> StoredAnswer | None:
        """The answer as far as it goes, unless its client wants none to be kept."""
        if not self._status or not self._form.is_stored:
            return None
        if self._status == "in_progress":
            self._status = "cancelled"
        return StoredAnswer(
            f"{RESPONSE}{self._name}",
            self._form.previous,
            to_json(self._form.items),
            to_json(self._all_output()),
            self._body(output=False),
        )

    def _begin(self) -> Iterator[bytes]:
        self._status = "in_progress"
        for name in ("created", "in_progress"):
            yield self._lifecycle(name)

    def _call(self, call_id: str, name: str) -> OutputItem:
        tool = self._form.tools.get(name) or ServedTool("function", name)
        return CallItem(self._id("ctc" if tool.kind == "custom" else "fc"), call_id, tool)

    def _more(self, kind: type[MessageItem] | type[ReasoningItem], text: str) -> Iterator[bytes]:
        if not isinstance(self._item, kind):
            yield from self._leave()
            yield from self._open(self._begun(kind))
        assert self._item is not None
        yield from map(self._of_item, self._item.delta(text))

    def _begun(self, kind: type[MessageItem] | type[ReasoningItem]) -> OutputItem:
        if issubclass(kind, MessageItem):
            return MessageItem(self._id("msg"))
        how = {"summarized": self._form.summarized, "encrypted": self._form.encrypted}
        return ReasoningItem(self._id("rs"), **how)

    def _open(self, item: OutputItem) -> Iterator[bytes]:
        self._item = item
        yield self._whole_item("added", item.fields("in_progress"))
        yield from map(self._of_item, item.open())

    def _close(self, status: str) -> Iterator[bytes]:
        if (item := self._item) is None:
            return
        yield from map(self._of_item, item.close())
        done = item.fields(status)
        yield self._whole_item("done", done)
        self._output.append(done)
        self._item = None

    def _leave(self, status: str = "completed") -> Iterator[bytes]:
        """Another item begins, or the answer ends. A call that is whole has ended by itself."""
        return self._close("incomplete" if isinstance(self._item, CallItem) else status)

    def _id(self, kind: str) -> str:
        return f"{kind}_{self._name}_{len(self._output)}"

    def _whole_item(self, what: str, item: dict[str, Any]) -> bytes:
        return self._event(f"output_item.{what}", {"output_index": len(self._output), "item": item})

    def _of_item(self, event: ItemEvent) -> bytes:
        assert self._item is not None
        name, fields = event
        place = {"item_id": self._item.id, "output_index": len(self._output)}
        return self._event(name, {**place, **fields})

    def _lifecycle(self, name: str, echo: bytes = b"") -> bytes:
        return self._event(name, {"response": msgspec.Raw(self._body(echo=echo))})

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        number, self._n_events = self._n_events, self._n_events + 1
        name = f"response.{name}"
        return sse(name, {"type": name, "sequence_number": number, **fields})

    def _all_output(self) -> list[dict[str, Any]]:
        """The items, and what there is of the last one if the answer has ended in it."""
        if self._item is None or self._status == "in_progress":
            return self._output
        return [*self._output, self._item.fields("incomplete")]

    def _body(self, *, output: bool = True, echo: bytes = b"") -> bytes:
        why = {"reason": "max_output_tokens"} if self._status == "incomplete" else None
        head = {
            "id": f"{RESPONSE}{self._name}",
            "object": "response",
            "created_at": self._created_s,
            "status": self._status,
            "completed_at": self._completed_s,
            "error": self._error,
            "incomplete_details": why,
            "model": self._model,
            "output": self._all_output() if output else [],
            "usage": None if self._usage is None else wire_usage(self._usage),
        }
        echo = (echo or self._form.echo)[1:]
        return b"%b%b%b" % (to_json(head)[:-1], b"" if echo == b"}" else b",", echo)


def answer_of(item_id: str) -> str:
    """The id of the answer that an item is part of."""
    parts = item_id.split("_")
    return f"{RESPONSE}{parts[1]}" if len(parts) == 3 else ""


def _stream_code(error: ServerError) -> str:
    """The code of a failed answer, of which Codex looks at few: after others, it tries again."""
    if isinstance(error, Cancelled):
        return _NO_USE
    if code := error_code(error):
        return code
    if error.retryable or error.status >= 500:
        return "server_error"
    return _NO_USE


def wire_usage(usage: Usage) -> dict[str, Any]:
    """OpenAI counts cached tokens as a part of the prompt's. Unknown ones are 0 here."""
    n_input, n_output = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": n_input,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": n_output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": n_input + n_output,
    }
