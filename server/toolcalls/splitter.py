"""A model's text, piece by piece, into text, thinking and tool-call events.

Text that can't be the beginning of a marker is let through at once; what may still become one is
held back until it is known. A call that can't be read comes out as the text it was.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mlxdeck.server.messages import (
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolSpec,
)
from mlxdeck.server.toolcalls.call import Call, ToolCallError

Piece = TextDelta | ThinkingDelta | ToolCallStart | ToolCallDelta | ToolCallEnd
_Mode = Literal["text", "thinking", "tool"]


class Reader(Protocol):
    """The part of a tool format that reading needs."""

    name: str
    start: str
    end: str

    def parse(self, text: str, tools: Sequence[ToolSpec]) -> list[Call]:
        """Read what stands between the markers."""


@dataclass(frozen=True, slots=True)
class BadCall:
    """A call that could not be read; it has been passed on as text."""

    format: str
    error: str
    n_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Markers:
    """The texts that switch between modes; empty ones never match."""

    think_start: str = ""
    think_end: str = ""
    stops: tuple[str, ...] = ()


class Splitter:
    """Splits one answer. Feed it text, then close it."""

    def __init__(
        self,
        markers: Markers,
        reader: Reader,
        tools: Sequence[ToolSpec],
        *,
        thinking: bool = False,
        constrained: bool = False,
    ) -> None:
        """`constrained` says that the model is held to the schemas of the tools."""
        self._constrained = constrained
        self._markers = markers
        self._reader = reader
        self._tools = tools
        self._mode: _Mode = "thinking" if thinking else "text"
        self._held = ""
        self._lead = True
        self.stopped_by: str | None = None
        """The stop sequence that ended the answer; what is fed after it is dropped."""
        self.n_calls = 0
        self.bad_calls: list[BadCall] = []

    def feed(self, text: str) -> Iterator[Piece]:
        """Take more of the answer; yield what is certain by now."""
        if self.stopped_by is not None:
            return
        self._held += text
        while (found := self._first_marker()) is not None:
            index, marker = found
            before, self._held = self._held[:index], self._held[index + len(marker) :]
            yield from self._pass_on(before, marker)
            if self.stopped_by is not None:
                self._held = ""
                return
        if self._mode != "tool":
            keep = _partial(self._held, self._watched())
            certain = self._held[: len(self._held) - keep]
            self._held = self._held[len(certain) :]
            yield from self._plain(certain)

    def close(self, *, complete: bool) -> Iterator[Piece]:
        """End the answer: a call is still read if the model ended it itself (`complete`)."""
        text, self._held = self._held, ""
        if self._mode == "tool" and complete:
            yield from self._call(text, closed=False)
        elif self._mode == "tool":
            yield from self._plain_text(self._reader.start + text)
        else:
            yield from self._plain(text)

    def _watched(self) -> tuple[str, ...]:
        if self._mode == "tool":
            return (self._reader.end,)
        if self._mode == "thinking":
            return (self._markers.think_end,)
        start = self._reader.start if self._tools else ""
        return (start, self._markers.think_start, *self._markers.stops)

    def _first_marker(self) -> tuple[int, str] | None:
        found = [
            (index, -len(marker), marker)
            for marker in self._watched()
            if marker and (index := self._held.find(marker)) >= 0
        ]
        if not found:
            return None
        index, _, marker = min(found)
        return index, marker

    def _pass_on(self, before: str, marker: str) -> Iterator[Piece]:
        if self._mode == "tool":
            self._mode = "text"
            yield from self._call(before, closed=True)
            return
        yield from self._plain(before)
        if self._mode == "thinking":
            self._mode = "text"
            self._lead = True
        elif marker in self._markers.stops:
            self.stopped_by = marker
        elif marker == self._markers.think_start:
            self._mode = "thinking"
        else:
            self._mode = "tool"

    def _call(self, text: str, *, closed: bool) -> Iterator[Piece]:
        try:
            calls = self._reader.parse(text, self._tools)
        except ToolCallError as error:
            raw = self._reader.start + text + (self._reader.end if closed else "")
            digest = hashlib.sha256(raw.encode()).hexdigest()[:12]
            self.bad_calls.append(BadCall(self._reader.name, str(error), len(raw), digest))
            yield from self._plain_text(raw)
            return
        self._lead = True
        for call in calls:
            self.n_calls += 1
            yield ToolCallStart(f"toolu_{secrets.token_hex(12)}", call.name)
            yield ToolCallDelta(_to_json(call.arguments))
            yield ToolCallEnd(
                self._reader.name,
                constrained=self._constrained,
                repaired=call.repaired,
                schema_valid=call.schema_valid,
            )

    def _plain(self, text: str) -> Iterator[Piece]:
        if self._mode == "thinking":
            if text:
                yield ThinkingDelta(text)
        else:
            yield from self._plain_text(text)

    def _plain_text(self, text: str) -> Iterator[Piece]:
        # Models put blank lines after thinking and around calls; they are no part of the answer.
        if self._lead and self._mode == "text":
            text = text.lstrip("\n")
        if text:
            self._lead = False
            yield TextDelta(text)


def _to_json(arguments: dict[str, object]) -> str:
    """As readable as possible; what is no valid Unicode stays an escape, as the model wrote it."""
    text = json.dumps(arguments, ensure_ascii=False)
    return text if text.isascii() or _is_unicode(text) else json.dumps(arguments)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _partial(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of `text` that a marker begins with."""
    longest = max((len(marker) for marker in markers), default=0)
    for n in range(min(longest - 1, len(text)), 0, -1):
        if any(marker.startswith(text[-n:]) for marker in markers):
            return n
    return 0
