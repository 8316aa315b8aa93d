"""Calls of another server's model, judged by the schemas of the tools as a local model's are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from mlxdeck.server.chat import ToolCallDelta, ToolCallEnd, ToolCallStart, ToolSpec
from mlxdeck.server.joined_text import JoinedText
from mlxdeck.server.lenient_json import decode_strictly
from mlxdeck.server.request_facts import BadCall
from mlxdeck.server.schemas.validation import conforms

HASH_DIGITS = 12
_SIGNS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
"""Those that open and close something, and what a backslash takes away their meaning."""


class JudgedCalls:
    """The calls of one answer, one after the other."""

    def __init__(self, format_: str, tools: Sequence[ToolSpec]) -> None:
        """`format_` is reported as the format of the calls."""
        self._format = format_
        self._schemas = {tool.name: tool.input_schema for tool in tools}
        self._name = ""
        self._arguments = JoinedText()
        self._nesting = _Nesting()
        self.is_open = False
        self.n_bad = 0
        self.n_calls = 0

    def start(self, call_id: str, name: str) -> ToolCallStart:
        """A call begins."""
        self._name, self._arguments, self.is_open = name, JoinedText(), True
        self._nesting = _Nesting()
        self.n_calls += 1
        return ToolCallStart(call_id, name)

    def piece(self, text: str) -> ToolCallDelta:
        """More of its arguments."""
        self._arguments.add(text)
        self._nesting.feed(text)
        return ToolCallDelta(text)

    @property
    def is_complete(self) -> bool:
        """Whether no more of its arguments can follow, as their object has ended.

        Without any yet it is not, though a tool may take none.
        """
        return self._nesting.has_ended

    def end(self, *, cut: bool = False) -> list[ToolCallDelta | ToolCallEnd | BadCall]:
        """The call is complete, or `cut` off by a limit.

        Arguments that are no object are a fault, which is reported. They went out as they came.
        """
        self.is_open = False
        text = self._arguments.text
        if not text.strip():
            return [ToolCallDelta("{}"), self._judged({})]
        try:
            value = decode_strictly(text)
        except (ValueError, RecursionError) as error:
            why = str(error)[:200] if isinstance(error, ValueError) else "nested too deeply"
            return [self._bad(text, "the answer ended in it" if cut else why)]
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


class _Nesting:
    """Where the object ends whose JSON comes in pieces. Each is looked at once."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._is_escaped = False
        self.has_ended = False

    def feed(self, piece: str) -> None:
        """More of it."""
        for found in _SIGNS.finditer(piece, int(self._is_escaped)):
            sign = found[0]
            if sign == '"':
                self._in_text = not self._in_text
            elif not self._in_text and sign[0] != "\\":
                self._depth += 1 if sign in "{[" else -1
                self.has_ended = self.has_ended or self._depth == 0
        if piece:
            n_last = len(piece) - len(piece.rstrip("\\"))
            # One backslash at the end takes the next sign with it, two are one of the text.
            was = self._is_escaped and n_last == len(piece)
            self._is_escaped = (n_last - was) % 2 == 1
