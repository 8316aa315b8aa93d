"""The items of an answer while they grow: each event of one, and what it is at any moment.

Names and order of the events: https://platform.openai.com/docs/api-reference/responses-streaming.
An event is a pair of its name, without `response.` before it, and its own fields; the writer of the
stream adds place, item and number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from mlxdeck.server.dialects.openai_responses.argument_text import ArgumentText
from mlxdeck.server.dialects.openai_responses.history import hide_thought
from mlxdeck.server.dialects.openai_responses.tools import ServedTool
from mlxdeck.server.dialects.surrogates import WholeEscapes

ItemEvent = tuple[str, dict[str, Any]]
CALL, CUSTOM_CALL = "function_call", "custom_tool_call"
Status = str
"""`in_progress`, `completed` or `incomplete`."""


class OutputItem(Protocol):
    """One item; `delta` and `close` are used only between `open` and its end."""

    id: str

    def open(self) -> Iterator[ItemEvent]:
        """The events before its first delta."""

    def delta(self, text: str) -> Iterator[ItemEvent]:
        """More of it."""

    def close(self) -> Iterator[ItemEvent]:
        """The events after its last delta."""

    def fields(self, status: Status) -> dict[str, Any]:
        """All that there is of it."""


class MessageItem:
    """Text for the user."""

    def __init__(self, item_id: str) -> None:
        self.id = item_id
        self._texts: list[str] | None = None

    def open(self) -> Iterator[ItemEvent]:
        self._texts = []
        yield "content_part.added", {"content_index": 0, "part": self._part()}

    def delta(self, text: str) -> Iterator[ItemEvent]:
        assert self._texts is not None
        self._texts.append(text)
        yield "output_text.delta", {"content_index": 0, "delta": text, "logprobs": []}

    def close(self) -> Iterator[ItemEvent]:
        part = self._part()
        yield "output_text.done", {"content_index": 0, "text": part["text"], "logprobs": []}
        yield "content_part.done", {"content_index": 0, "part": part}

    def fields(self, status: Status) -> dict[str, Any]:
        content = [] if self._texts is None else [self._part()]
        head = {"id": self.id, "type": "message", "status": status}
        return {**head, "role": "assistant", "content": content}

    def _part(self) -> dict[str, Any]:
        text = "".join(self._texts or ())
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class ReasoningItem:
    """What the model thinks, as a summary or as it is."""

    def __init__(self, item_id: str, *, summarized: bool, encrypted: bool) -> None:
        self.id = item_id
        self._texts: list[str] | None = None
        self._encrypted = encrypted
        self._parts, self._event, self._kind, self._index = (
            ("reasoning_summary_part", "reasoning_summary_text", "summary_text", "summary_index")
            if summarized
            else ("content_part", "reasoning_text", "reasoning_text", "content_index")
        )

    def open(self) -> Iterator[ItemEvent]:
        self._texts = []
        yield f"{self._parts}.added", {self._index: 0, "part": self._part()}

    def delta(self, text: str) -> Iterator[ItemEvent]:
        assert self._texts is not None
        self._texts.append(text)
        yield f"{self._event}.delta", {self._index: 0, "delta": text}

    def close(self) -> Iterator[ItemEvent]:
        part = self._part()
        yield f"{self._event}.done", {self._index: 0, "text": part["text"]}
        yield f"{self._parts}.done", {self._index: 0, "part": part}

    def fields(self, status: Status) -> dict[str, Any]:
        parts = [] if self._texts is None else [self._part()]
        item: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": []}
        if self._kind == "summary_text":
            item["summary"] = parts
        else:
            item["content"] = parts
        if self._encrypted:
            whole = status != "in_progress" and self._texts is not None
            item["encrypted_content"] = hide_thought("".join(self._texts or ())) if whole else None
        return {**item, "status": status}

    def _part(self) -> dict[str, Any]:
        return {"type": self._kind, "text": "".join(self._texts or ())}


class CallItem:
    """A call of a function, or of a custom tool, whose text the model writes as an argument."""

    def __init__(self, item_id: str, call_id: str, tool: ServedTool) -> None:
        self.id = item_id
        self._call_id, self._tool = call_id, tool
        self._pieces: list[str] = []
        self._reader: ArgumentText | WholeEscapes
        if tool.kind == "custom":
            self._reader = ArgumentText()
            self._type, self._event, self._name = CUSTOM_CALL, "custom_tool_call_input", "input"
        else:
            self._reader = WholeEscapes()
            self._type, self._event, self._name = CALL, "function_call_arguments", "arguments"

    def open(self) -> Iterator[ItemEvent]:
        return iter(())

    def delta(self, text: str) -> Iterator[ItemEvent]:
        yield from self._more(self._reader.feed(text))

    def close(self) -> Iterator[ItemEvent]:
        yield from self._more(self._reader.flush())
        yield f"{self._event}.done", {self._name: "".join(self._pieces)}

    def fields(self, status: Status) -> dict[str, Any]:
        head = {"id": self.id, "type": self._type, "status": status}
        call = {**head, "call_id": self._call_id, "name": self._tool.name}
        if self._tool.namespace:
            call["namespace"] = self._tool.namespace
        return {**call, self._name: "".join(self._pieces)}

    def _more(self, text: str) -> Iterator[ItemEvent]:
        if text:
            self._pieces.append(text)
            yield f"{self._event}.delta", {"delta": text}
