"""The content of an answer as one list of blocks, put together from its events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlxdeck.server.chat import (
    Event,
    Foreign,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from mlxdeck.server.dialects.surrogates import whole_value

SIGNATURE = "bWx4ZGVjaw=="
"""Thinking blocks must carry one. Nothing here verifies it: it is the word mlxdeck in base64."""
EMPTY: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class WholeMessage:
    """Collects the blocks of one answer."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self._arguments: str | None = None
        """Of the call that is open."""
        self._partial = ""
        """JSON of a foreign block's input."""
        self._is_foreign = False
        """Whether the last block was opened in its maker's own words."""

    def add(self, event: Event) -> None:
        """One more event of the answer."""
        match event:
            case TextDelta(text):
                self._grow("text", text)
            case ThinkingDelta(text):
                self._grow("thinking", text)
                if not self._is_foreign:
                    self.content[-1]["signature"] = SIGNATURE
            case ToolCallStart(call_id, name):
                self.cut()
                self._arguments = ""
                if not (self._is_foreign and self._last("tool_use")):
                    self._open({"type": "tool_use", "id": call_id, "name": name, "input": {}})
            case ToolCallDelta(text):
                self._arguments = (self._arguments or "") + text
            case ToolCallEnd():
                self.content[-1]["input"] = whole_value(json.loads(self._arguments or "{}"))
                self._arguments = None
                self._is_foreign = False
            case Foreign(dialect="anthropic", data=data):
                self._foreign(data)

    def cut(self) -> None:
        """End a call that is open: half an object is text, and no call."""
        if self._arguments is None:
            return
        name = self.content.pop()["name"]
        self._is_foreign = False
        self._grow("text", f"{name} {self._arguments}")
        self._arguments = None

    def _foreign(self, data: Mapping[str, Any]) -> None:
        match data:
            case {"type": "content_block_start", "content_block": dict(block)}:
                self.cut()
                self._open(dict(block), foreign=True)
            case {"type": "content_block_delta", "delta": dict(delta)} if self._is_foreign:
                self._delta(delta)
            case {"type": "content_block_stop"} if self._is_foreign and self._partial:
                self.content[-1]["input"] = _input(self._partial)
                self._partial = ""

    def _delta(self, delta: Mapping[str, Any]) -> None:
        block = self.content[-1]
        match delta:
            case {"type": "signature_delta", "signature": str(signature)}:
                block["signature"] = signature
            case {"type": "citations_delta", "citation": citation}:
                block["citations"] = [*(block.get("citations") or ()), citation]
            case {"type": "input_json_delta", "partial_json": str(text)}:
                self._partial += text
            case {"type": "compaction_delta"}:
                block |= {key: value for key, value in delta.items() if key != "type"}

    def _open(self, block: dict[str, Any], *, foreign: bool = False) -> None:
        self.content.append(block)
        self._is_foreign, self._partial = foreign, ""

    def _last(self, kind: str) -> bool:
        return bool(self.content) and self.content[-1].get("type") == kind

    def _grow(self, kind: str, text: str) -> None:
        if not self._last(kind):
            self._open(dict(EMPTY[kind]))
        self.content[-1][kind] = self.content[-1].get(kind, "") + text


def _input(partial: str) -> Any:
    """The input of a call that another server ran; it is passed on as it is, if it is no JSON."""
    try:
        return json.loads(partial)
    except ValueError:
        return {"input": partial}
