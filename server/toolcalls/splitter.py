"""A model's text, piece by piece, into text, thinking and tool-call events.

Text that can't be the beginning of a marker is let through at once; what may still become one is
held back until it is known. A call that can't be read comes out as the text it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlxdeck.server.messages import ToolCallEnd, ToolCallStart, ToolSpec
from mlxdeck.server.toolcalls import plain
from mlxdeck.server.toolcalls.formats.form import Form
from mlxdeck.server.toolcalls.repeats import Looped, Repeats
from mlxdeck.server.toolcalls.sink import Piece, Sink, ToolCallError
from mlxdeck.server.toolcalls.source import CutOff, Reading, Source, partial_end

MIN_HALF_CHARS = 2
"""What the token limit leaves of a marker is no text; a single `<` may be."""


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
        reader: Form,
        tools: Sequence[ToolSpec],
        *,
        thinking: bool = False,
        constrained: bool = False,
        parallel: bool = True,
        shows_thinking: bool = True,
        loose: Collection[str] = (),
        loop_guard: bool = True,
    ) -> None:
        """`constrained` says that the model is held to the schemas of the tools, but the `loose`.

        Without `parallel`, the answer is over with its first call; without `shows_thinking`, what
        the model thinks is dropped.
        """
        self._markers = markers
        self._reader = reader
        self._tools = tools
        self._names = plain.candidates(tools)
        self._source = Source()
        self._repeats = Repeats(watching=loop_guard)
        self._sink = Sink(
            reader.name, tools, self._source, constrained=constrained, repeats=self._repeats
        )
        self._sink.shows_thinking, self._sink.loose = shows_thinking, loose
        self._reading = self._read(thinking=thinking)
        self._constrained = constrained
        self._parallel = parallel
        self._cut = False
        self.stopped_by: str | None = None
        """The stop sequence that ended the answer; what is fed after it is dropped."""
        self.bad_calls: list[BadCall] = []
        self.notes: list[tuple[int, str]] = []
        """What was decided, and at which character of the answer."""
        self.broken = ""
        """Why a call went wrong of which something had been sent; nothing sensible can follow."""
        self.looped = False
        """Whether it made one call too often, which is dropped with all that follows it."""

    @property
    def over(self) -> bool:
        """Whether nothing that follows can be a part of the answer."""
        one = self._sink.n_calls > 0 and not self._parallel
        return self.stopped_by is not None or bool(self.broken) or self.looped or one

    @property
    def n_calls(self) -> int:
        """How many calls have been read."""
        return self._sink.n_calls

    def begin(self, text: str) -> list[Piece]:
        """Take what the answer was given to begin with, which is not said again.

        Only the call that it has left open is returned: its start belongs to what follows.
        """
        pieces = self.feed(text)
        starts = [n for n, piece in enumerate(pieces) if isinstance(piece, ToolCallStart)]
        opened = starts and not any(isinstance(each, ToolCallEnd) for each in pieces[starts[-1] :])
        return pieces[starts[-1] :] if opened else []

    def feed(self, text: str) -> list[Piece]:
        """Take more of the answer; return what is certain by now."""
        self._source.feed(text)
        return self._advance()

    def close(self, *, complete: bool) -> list[Piece]:
        """End the answer; `complete` if the model ended it itself."""
        self._source.ended, self._source.cut, self._cut = True, not complete, not complete
        return self._advance()

    def _advance(self) -> list[Piece]:
        next(self._reading, None)
        return self._sink.drain()

    def _read(self, *, thinking: bool) -> Reading[None]:
        source, sink, markers = self._source, self._sink, self._markers
        if thinking:
            yield from self._thinking()
        starts = self._reader.starts if self._tools or self._reader.always else ()
        # With tools on offer, a line may be a call by itself: lines are looked at one by one.
        line_end = "\n" if self._tools else ""
        watched = (*starts, markers.think_start, *markers.stops, line_end)
        line_start, alone = True, True
        while not self.broken and not self.looped:
            source.forget()
            if line_start and self._tools and (yield from self._plain_call(alone=alone)):
                return
            before, marker = source.certain(*watched)
            if self._cut and (n := partial_end(before, starts)) >= MIN_HALF_CHARS:
                before = before[:-n]
            sink.text(before)
            alone = alone and not before.strip()
            line_start = marker == "\n" or (line_start and not before)
            if marker == "\n":
                sink.text("\n")
            elif marker in markers.stops and marker:
                self.stopped_by = marker
                self._note(f"stop sequence {marker!r}")
                return
            elif marker and marker == markers.think_start:
                yield from self._thinking()
                line_start = True
            elif marker:
                yield from self._call(marker)
                line_start = alone = False
            elif source.ended:
                return
            else:
                yield

    def _note(self, text: str) -> None:
        self.notes.append((self._source.offset, text))

    def _thinking(self) -> Reading[None]:
        source, end = self._source, self._markers.think_end
        self._note(f"thinking, up to {end!r}")
        while True:
            text, marker = source.certain(end)
            self._sink.think(text)
            if marker or source.ended:
                return
            yield

    def _call(self, marker: str) -> Reading[None]:
        source, sink = self._source, self._sink
        sink.done_to = source.place - len(marker)
        # The grammar takes hold behind the start that the format writes itself, and no other.
        sink.held = self._constrained and marker == self._reader.starts[0]
        n_before = sink.n_calls
        self._note(f"{marker!r} begins a call in format {self._reader.name}")
        try:
            yield from self._reader.read(source, sink, marker)
            if sink.n_calls > n_before or self._reader.always:
                self._note(f"{sink.n_calls - n_before} calls were read")
                return
            error = "an empty call"
        except Looped:
            self.looped = True
            self._note("the same call stands here too often: the answer is ended")
            return
        except CutOff:
            error = "it does not end"
        except ToolCallError as found:
            error = str(found)
        if source.ended:
            source.take(len(source.held))
        self._note(f"no call: {error}")
        sent = sink.abandon()
        raw = source.since(sink.done_to)
        if not (self._cut and source.ended):
            digest = hashlib.sha256(raw.encode(errors="surrogatepass")).hexdigest()[:12]
            self.bad_calls.append(BadCall(self._reader.name, error, len(raw), digest))
            self.broken = error if sent else ""
        if not sent:
            sink.text("" if self._half(raw) else raw)

    def _half(self, text: str) -> bool:
        """Whether a text is what the token limit has left of a marker."""
        squeezed = "".join(text.split())
        if not (self._cut and self._source.ended) or len(squeezed) < MIN_HALF_CHARS:
            return False
        return any(marker.startswith(squeezed) for marker in self._reader.markers)

    def _plain_call(self, *, alone: bool) -> Reading[bool]:
        """Read a call in one of the plain forms, if one comes next and nothing follows it."""
        source = self._source
        begin = source.place
        if not (yield from plain.may_begin(source, self._names, alone=alone)):
            return False
        sink = Sink(plain.NAME, self._tools, constrained=False, repeats=self._repeats.tried())
        error = ""
        self._note("this line may be a call in a plain form")
        try:
            yield from plain.read(source, sink, alone=alone)
        except CutOff:
            error = "it does not end"
        except ToolCallError as found:
            error = str(found)
        if error or self._cut:
            # If it was cut off, nobody knows what would have followed.
            self._note(f"no call: {error or 'the answer was cut off'}")
            source.back(begin)
            return False
        self._note(f"{sink.n_calls} calls were read, and nothing follows them")
        self._sink.adopt(sink)
        self.looped = sink.looped
        return True
