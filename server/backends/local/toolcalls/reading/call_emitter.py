"""The target of readers: text, thinking, and calls, checked against the offered tools.

A constrained call can't go wrong, so its arguments pass through as they arrive. Any other call is
kept until it is complete: if it turns out to be no call, it is sent as text.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from mlxdeck.server.backends.local.toolcalls.reading.repeated_calls import RepeatedCalls
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import StreamReader
from mlxdeck.server.chat import (
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolSpec,
)
from mlxdeck.server.joined_text import JoinedText
from mlxdeck.server.lenient_json import decode_strictly
from mlxdeck.server.schemas.validation import conforms
from mlxdeck.server.schemas.values import to_json

Piece = TextDelta | ThinkingDelta | ToolCallStart | ToolCallDelta | ToolCallEnd

SINGLE_QUOTES, OTHER_TYPE = "single quotes", "a value of another type than the schema's"
"""What is repaired, as `mlxdeck parse --explain` says it."""


class ToolCallError(ValueError):
    """A text that looks like a call is none; the error gives the reason."""


class CallEmitter:
    """Collects the results of reading one answer."""

    def __init__(
        self,
        format_: str,
        tools: Sequence[ToolSpec],
        source: StreamReader | None = None,
        *,
        constrained: bool,
        repeats: RepeatedCalls | None = None,
    ) -> None:
        """`constrained` means that decoding is constrained to the schemas of the tools."""
        self._source = source
        self._repeats = repeats or RepeatedCalls()
        self.done_to = 0
        """The place in the source up to which calls are whole."""
        self.constrained = constrained
        self.held = constrained
        """Whether a grammar fixes the syntax of the calls, if not their contents."""
        self.format = format_
        """The name under which calls are reported."""
        self.n_calls = 0
        self.looped = False
        """Whether one call came too often; it and those that follow it are dropped."""
        self.shows_thinking = True
        self.loose: Collection[str] = ()
        """Tools to whose schemas the model is not held after all."""
        self.repaired = False
        """Set by any code that repairs something in the open call."""
        self.repairs: list[str] = []
        """What was repaired, for people; each once."""
        self._tools = {tool.name: tool for tool in tools}
        self._ready: list[Piece] = []
        self._call: ToolSpec | None = None
        self._streams = False
        self._arguments = JoinedText()
        self._lead = self._lead_thought = True

    def drain(self) -> list[Piece]:
        """What may be sent by now, texts that follow one another as one."""
        ready, self._ready = self._ready, []
        pieces: list[Piece] = []
        for is_text, group in groupby(ready, lambda piece: isinstance(piece, TextDelta)):
            run = [*group]
            texts = (piece.text for piece in run if isinstance(piece, TextDelta))
            pieces += [TextDelta("".join(texts))] if is_text else run
        return pieces

    def text(self, text: str) -> None:
        """Text of the answer."""
        # Models put blank lines after thinking and around calls; they are no part of the answer.
        if self._lead:
            text = text.lstrip("\n")
        if text:
            self._lead, self._lead_thought = False, True
            self._ready.append(TextDelta(text))

    def think(self, text: str) -> None:
        """A piece of thinking."""
        self._lead = True
        if self._lead_thought:
            text = text.lstrip("\n")
        if text and self.shows_thinking:
            self._lead_thought = False
            self._ready.append(ThinkingDelta(text))

    @property
    def offered(self) -> Iterable[ToolSpec]:
        """The tools."""
        return self._tools.values()

    def tool(self, name: str) -> ToolSpec:
        """The offered tool of a name.

        Raises:
            ToolCallError: It was not offered.
        """
        found = self._tools.get(name)
        if found is None:
            raise ToolCallError(f"tool {name[:64]!r} was not offered")
        return found

    def begin(self, tool: ToolSpec) -> None:
        """A call of the tool begins."""
        self._call, self._arguments, self.repaired = tool, JoinedText(), False
        self.constrained = self.held and tool.name not in self.loose
        # A call that may be one too many is shown once that is known.
        self._streams = self.constrained and not self._repeats.suspects(tool.name)
        if self._streams:
            self._ready.append(ToolCallStart(new_call_id(), tool.name))

    def add(self, json_text: str) -> None:
        """The next piece of its arguments, as strict JSON."""
        if json_text:
            self._arguments.add(json_text)
            if self._streams:
                self._ready.append(ToolCallDelta(json_text))

    def repair(self, what: str, *, when: bool = True) -> None:
        """Something in the open call was repaired."""
        self.repaired |= when
        if when and what not in self.repairs:
            self.repairs.append(what)

    def told_repairs(self) -> list[str]:
        """Lines for people about what was repaired since the last time."""
        repairs, self.repairs = self.repairs, []
        return [f"repaired: {what}" for what in repairs]

    def end(self) -> None:
        """The call is whole.

        Raises:
            ToolCallError: Its arguments are no JSON after all.
            Looped: The answer holds it too often by now.
        """
        tool, text = self._call, self._arguments.text
        assert tool is not None
        try:
            arguments = decode_strictly(text)
            valid = conforms(arguments, tool.input_schema)
        except (ValueError, RecursionError) as error:
            raise ToolCallError(f"not JSON: {error}") from error
        self.looped = self.looped or self._repeats.add(tool.name, arguments)
        if self.looped:
            self._call = None
            return
        if not self._streams:
            self._ready += [ToolCallStart(new_call_id(), tool.name), ToolCallDelta(text)]
        # A call that does not conform was not constrained to its whole schema, whatever was
        # planned.
        held = self.constrained and valid is not False
        self._ready.append(ToolCallEnd(self.format, held, self.repaired, valid))
        self._call, self._lead = None, True
        self.n_calls += 1
        self.done_to = self._source.place if self._source else 0

    def put(self, tool: ToolSpec, arguments: dict[str, Any], *, repaired: bool) -> None:
        """A call that is known as a whole."""
        self.begin(tool)
        self.add(to_json(arguments))
        self.repair("arguments that were left out", when=repaired)
        self.end()

    def abandon(self) -> bool:
        """Drop a call that is not going to be whole; whether some of it has been sent already."""
        begun, self._call = self._call is not None, None
        self.repairs.clear()
        return begun and self._streams

    @property
    def all_valid(self) -> bool:
        """Whether no call that is ready is known not to conform."""
        ends = [piece for piece in self._ready if isinstance(piece, ToolCallEnd)]
        return all(end.schema_valid is not False for end in ends)

    def repaired_last(self) -> None:
        """Record that text around the previous call was repaired."""
        if self._ready and isinstance(last := self._ready[-1], ToolCallEnd):
            self._ready[-1] = replace(last, repaired=True)
            self.repairs.append("a tag that closes nothing")

    def adopt(self, other: CallEmitter) -> None:
        """What another sink has made of the same answer."""
        self._ready += other.drain()
        self.n_calls += other.n_calls
        self._lead = True


def new_call_id() -> str:
    """As Anthropic writes them; other APIs take any."""
    return f"toolu_{secrets.token_hex(12)}"
