"""Calls of another server's model, judged by the schemas of the tools as a local model's are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from mlxdeck.server.chat import ToolCallDelta, ToolCallEnd, ToolCallStart, ToolSpec
from mlxdeck.server.request_facts import BadCall
from mlxdeck.server.schemas.validation import conforms

HASH_DIGITS = 12


class JudgedCalls:
    """The calls of one answer, one after the other."""

    def __init__(self, format_: str, tools: Sequence[ToolSpec]) -> None:
        """`format_` is reported as the format of the calls."""
        self._format = format_
        self._schemas = {tool.name: tool.input_schema for tool in tools}
        self._name = ""
        self._pieces: list[str] = []
        self.is_open = False
        self.n_bad = 0
        self.n_calls = 0

    def start(self, call_id: str, name: str) -> ToolCallStart:
        """A call begins."""
        self._name, self._pieces, self.is_open = name, [], True
        self.n_calls += 1
        return ToolCallStart(call_id, name)

    def piece(self, text: str) -> ToolCallDelta:
        """More of its arguments."""
        self._pieces.append(text)
        return ToolCallDelta(text)

    def end(self, *, cut: bool = False) -> list[ToolCallDelta | ToolCallEnd | BadCall]:
        """The call is complete, or `cut` off by a limit.

        Arguments that are no object are a fault, which is reported. They went out as they came.
        """
        self.is_open = False
        text = "".join(self._pieces)
        if not text.strip():
            return [ToolCallDelta("{}"), self._judged({})]
        try:
            value = _decoded(text)
        except ValueError as error:
            return [self._bad(text, "the answer ended in it" if cut else str(error)[:200])]
        if not isinstance(value, dict):
            return [self._bad(text, "the arguments are no object")]
        return [self._judged(value)]

    def _judged(self, value: dict[str, Any]) -> ToolCallEnd:
        schema = self._schemas.get(self._name)
        valid = None if schema is None else conforms(value, schema)
        return ToolCallEnd(self._format, schema_valid=valid)

    def _bad(self, text: str, error: str) -> BadCall:
        self.n_bad += 1
        raw = text.encode("utf-8", "surrogatepass")
        return BadCall(self._format, error, len(raw), hashlib.sha256(raw).hexdigest()[:HASH_DIGITS])


def _decoded(text: str) -> Any:
    """JSON, also with halves of surrogate pairs.

    Raises:
        ValueError: It is none.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
