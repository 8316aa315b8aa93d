"""Turns a model's text, piece by piece, into text, thinking and tool-call events.

Text that can't be the beginning of a marker is passed on at once. Other text waits until it is
decided. A call that can't be read is sent as its original text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading import bare_calls, markers, stream_reader
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter, Piece
from mlxdeck.server.backends.local.toolcalls.reading.code_context import QUOTES, CodeContext
from mlxdeck.server.backends.local.toolcalls.reading.foreign_calls import ENDS, STARTS
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.reading.repeated_calls import Looped, RepeatedCalls
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import (
    CutOff,
    Reading,
    StreamReader,
)
from mlxdeck.server.chat import ToolCallEnd, ToolCallStart, ToolSpec
from mlxdeck.server.request_facts import BadCall

MAX_NOTES = 1_000
MAX_VAIN = 8  # searches of the whole rest of an answer for the end of what may be no call
_QUOTING = tuple(" \t\"'(")


class Splitter:
    """Splits one answer. Feed it text, then close it."""

    def __init__(
        self,
        marks: Markers,
        reader: ToolFormat,
        tools: Sequence[ToolSpec],
        *,
        thinking: bool = False,
        constrained: bool = False,
        parallel: bool = True,
        shows_thinking: bool = True,
        loose: Collection[str] = (),
        loop_guard: bool = True,
    ) -> None:
        """`constrained` means that decoding is constrained to the tools' schemas, except for
        `loose` ones.

        Without `parallel`, the answer ends with its first call. Without `shows_thinking`, thinking
        is dropped.
        """
        self._markers, self._reader, self._tools = marks, reader, tools
        self._names = bare_calls.candidates(tools)
        self._source = StreamReader()
        self._repeats = RepeatedCalls(watching=loop_guard)
        about = (reader.name, tools, self._source)
        self._sink = CallEmitter(*about, constrained=constrained, repeats=self._repeats)
        self._sink.shows_thinking, self._sink.loose = shows_thinking, loose
        self._starts: tuple[str, ...] = reader.starts if tools or reader.always else ()
        if tools:
            self._starts = tuple(dict.fromkeys((*self._starts, *STARTS)))
        self._ends = ENDS if tools else ()
        self._standing = CodeContext()
        self._mentioned, self._n_vain = False, 0  # tags of thinking, in the visible answer
        self._reading = self._read(thinking=thinking)
        self._constrained, self._parallel, self._cut = constrained, parallel, False
        self.stopped_by: str | None = None
        """The stop sequence that ended the answer; text fed after it is dropped."""
        self.bad_calls: list[BadCall] = []
        self.notes: list[tuple[int, str]] = []
        """The first decisions, with their places in the answer in characters."""
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
    def n_open_chars(self) -> int:
        """The length of the text that is not decided yet, an open call's above all."""
        return self._source.n_kept

    @property
    def n_calls(self) -> int:
        """How many calls have been read."""
        return self._sink.n_calls

    def begin(self, text: str) -> list[Piece]:
        """Take the beginning of the answer that the client wrote, which is not sent again.

        Returns only the call that it has left open: its start belongs to the text that follows.
        """
        pieces = self.feed(text)
        starts = [n for n, piece in enumerate(pieces) if isinstance(piece, ToolCallStart)]
        opened = starts and not any(isinstance(each, ToolCallEnd) for each in pieces[starts[-1] :])
        return pieces[starts[-1] :] if opened else []

    def feed(self, text: str) -> list[Piece]:
        """Take more of the answer; return the events that are certain by now."""
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
        source, marks = self._source, self._markers
        if thinking:
            yield from self._thinking()
        # If tools are offered, a whole line may be a call: each line is checked.
        line_end = "\n" if self._tools else ""
        tags = (marks.think_start, marks.think_end)
        watched = (*self._starts, *self._ends, *tags, *marks.stops, line_end)
        line_start, alone = True, True
        while not self.broken and not self.looped:
            source.forget()
            if line_start and self._tools and (yield from self._line_of_calls(alone=alone)):
                continue
            before, marker = source.certain(*watched)
            n = stream_reader.partial_end(before, self._reader.starts) if self._cut else 0
            if n >= markers.MIN_HALF_CHARS:
                before = before[:-n]
            self._say(before)
            alone = alone and not before.strip()
            line_start = marker == "\n" or (line_start and not before)
            if not marker:
                if source.ended:
                    return
                yield
            elif marker in marks.stops:
                self.stopped_by = marker
                self._note(f"stop sequence {marker!r}")
                return
            elif marker == "\n":
                self._say("\n")
            elif marker in tags:
                line_start = yield from self._thinking_tag(marker)
            else:
                yield from self._start(marker)
                line_start = alone = False

    def _line_of_calls(self, *, alone: bool) -> Reading[bool]:
        """Read calls that begin with a line and end the answer."""
        return (yield from self._plain_call(alone=alone)) or (yield from self._fenced_call())

    def _say(self, text: str) -> None:
        """Text of the answer."""
        self._standing.saw(text)
        self._sink.text(text)

    def _note(self, text: str, read: CallEmitter | None = None) -> None:
        told = [text, *(read.told_repairs() if read else ())]
        self.notes += [(self._source.place, each) for each in told][: MAX_NOTES - len(self.notes)]

    def _thinking_tag(self, marker: str) -> Reading[bool]:
        """Handle a thinking tag in the visible answer; return whether a new line begins after it.

        Thinking comes first, or after thinking and calls. After visible text, an opening tag is a
        mention. A closing tag without an opening one is dropped, unless it is a mention too.
        """
        standing = self._standing
        if marker == self._markers.think_start:
            if not standing.visible and not standing.in_code:
                yield from self._thinking()
                standing.reset()
                return True
            self._mentioned = True
        elif not self._mentioned and not standing.in_code:
            behind = yield from self._source.peek()
            if not standing.visible or standing.last not in _QUOTING or behind in ("", "\n"):
                self._note(f"{marker!r} closes nothing")
                return standing.line_start
        self._say(marker)
        return False

    def _thinking(self) -> Reading[None]:
        source, end = self._source, self._markers.think_end
        self._note(f"thinking, up to {end!r}")
        # The template has often opened it already.
        yield from source.again(self._markers.think_start)
        while True:
            source.forget()
            text, marker = source.certain(end, *(self._starts if self._tools else ()))
            self._sink.think(text)
            if marker == end or (source.ended and not marker):
                return
            if not marker:
                yield
            elif (yield from self._call_in_thinking(marker)):
                return

    def _call_in_thinking(self, marker: str) -> Reading[bool]:
        """A call within thinking is real if the thinking never ends; returns whether it has ended.

        Some models think, then call, and forget the closing tag.
        """
        source, end = self._source, self._markers.think_end
        begin = source.place - len(marker)
        found: list[str | CallEmitter] = []
        tried = self._repeats.tried()
        behind = source.place
        while marker and marker != end:
            side, error = yield from self._aside(marker, tried, thinking=True)
            if error or (end and end in source.since(behind)):
                source.back(behind)
                found.append(marker)
            else:
                found.append(side)
            text, marker = yield from source.rest_up_to(end, *self._starts)
            found.append(text)
            behind = source.place
        calls = [each for each in found if isinstance(each, CallEmitter)]
        if marker == end or self._cut or not calls:
            whole = source.since(begin)
            self._sink.think(whole.removesuffix(end) if marker else whole)
            return True
        self._note(f"{len(calls)} calls in thinking that does not end")
        for each in found:
            if isinstance(each, CallEmitter):
                self._adopt(each, tried)
            elif each.strip():
                self._sink.think(each)
        return True

    def _start(self, marker: str) -> Reading[None]:
        """What opens a call, in this model's form or another's, in prose or in code."""
        own, standing = marker in self._reader.starts, self._standing
        mark = standing.fence if standing.in_code else standing.quote or None
        if marker not in self._starts and self._sink.n_calls and not self._standing.visible:
            self._note(f"{marker!r} is left over from the call before")
            return
        if own and mark is None:
            yield from self._call(marker)
        elif marker not in self._starts or not (yield from self._quoted(marker, mark)):
            self._say(marker)

    def _aside(
        self, marker: str, tried: RepeatedCalls, *, thinking: bool = False
    ) -> Reading[tuple[CallEmitter, str]]:
        """Read a call without emitting it; return the reason if it is none."""
        own = marker in self._reader.starts
        form = self._reader if own else STARTS[marker]
        # In thinking, no grammar takes hold.
        held = self._constrained and marker == self._reader.starts[0] and not thinking
        side = CallEmitter(form.name, self._tools, constrained=held, repeats=tried)
        side.loose = self._sink.loose
        error = "it is no call" if self._n_vain >= MAX_VAIN else ""
        if not error:
            try:
                yield from form.read(self._source, side, marker)
                is_one = (side.n_calls or side.looped) and (own or side.all_valid)
                error = "" if is_one else "it is no call"
            except CutOff:
                self._n_vain += 1
                error = "it does not end"
            except (ValueError, RecursionError) as failed:
                error = str(failed)
        found = error or f"{side.n_calls} calls"
        self._note(f"{marker!r} begins {found} in format {form.name}", side)
        return side, error

    def _adopt(self, side: CallEmitter, tried: RepeatedCalls) -> None:
        self._sink.adopt(side)
        self._repeats.adopt(tried)
        self.looped = self.looped or side.looped

    def _quoted(self, marker: str, fence: str | None) -> Reading[bool]:
        """Read calls in code or in another family's form; those in code have to end the answer."""
        source = self._source
        behind, found, tried = source.place, [], self._repeats.tried()
        while marker:
            side, error = yield from self._aside(marker, tried)
            found.append(side)
            marker = ""
            closed = fence not in QUOTES or (yield from source.match(QUOTES[fence]))
            if not (error or closed) and ((yield from source.peek()) or not self._cut):
                break
            if not error and fence is not None:
                yield from source.skip()
                if (yield from source.any_of(fence, "`")):
                    yield from source.skip()
                if (yield from source.peek()):
                    marker = yield from source.any_of(*self._starts)
                    error = "" if marker else "it is quoted"
                elif self._cut:
                    error = "nobody knows what would have followed"
        if error:
            self._note(f"no call: {error}")
            source.back(behind)
            return False
        for side in found:
            self._adopt(side, tried)
        self._standing.reset()
        return True

    def _fenced_call(self) -> Reading[bool]:
        """Read calls in a code fence that is the end of the answer."""
        source = self._source
        if self._standing.fence:
            return False
        begin = source.place
        yield from source.skip(" \t")
        fence = yield from source.any_of("```", "~~~")
        if fence:
            yield from bare_calls.line_end(source)
            yield from source.skip()
            marker = yield from source.any_of(*self._starts)
            if marker and (yield from self._quoted(marker, fence)):
                return True
        source.back(begin)
        return False

    def _call(self, marker: str) -> Reading[None]:
        source, sink = self._source, self._sink
        sink.done_to = source.place - len(marker)
        # The grammar takes hold behind the start that the format writes itself, and no other.
        sink.held = self._constrained and marker == self._reader.starts[0]
        n_before = sink.n_calls
        yield from source.again(marker)
        self._note(f"{marker!r} begins a call in format {self._reader.name}")
        try:
            yield from self._reader.read(source, sink, marker)
            if sink.n_calls > n_before or self._reader.always:
                self._note(f"calls read: {sink.n_calls - n_before}", sink)
                self._standing.reset()
                return
            error = "an empty call"
        except Looped:
            self.looped = True
            self._note("the same call is repeated too often: the answer ends here")
            return
        except CutOff:
            error = "it does not end"
        except (ValueError, RecursionError) as found:
            error = str(found)
        self._note(f"no call: {error}")
        sent = sink.abandon()
        raw = self._given_up(sink.done_to, goes_on=not sent)
        if behind := sink.n_calls > n_before:
            self._standing.reset()
        ended = source.ended and not source.n_held
        if not (self._cut and ended):
            digest = hashlib.sha256(raw.encode(errors="surrogatepass")).hexdigest()[:12]
            self.bad_calls.append(BadCall(self._reader.name, error, len(raw), digest))
            self.broken = error if sent else ""
        if not sent:
            half = self._cut and markers.is_half(raw, self._reader.markers, alone=not behind)
            self._say("" if ended and (half or (sink.n_calls and markers.only_tags(raw))) else raw)

    def _given_up(self, begin: int, *, goes_on: bool) -> str:
        """The text of a failed call, up to the place where another call may begin within it."""
        source = self._source
        if source.ended:
            source.take(source.n_held)
        raw = source.since(begin)
        n_chars = markers.next_start(raw, self._reader.starts, self._reader.opened)
        if goes_on and n_chars < len(raw) and self._n_vain < MAX_VAIN:
            self._n_vain += len(raw) > 2 * MAX_NAME
            source.back(begin + n_chars)
        return source.since(begin)

    def _plain_call(self, *, alone: bool) -> Reading[bool]:
        """Read a call in one of the plain forms, if one comes next and nothing follows it."""
        source = self._source
        begin = source.place
        if not (yield from bare_calls.may_begin(source, self._names, alone=alone)):
            return False
        tried = self._repeats.tried()
        sink = CallEmitter(bare_calls.NAME, self._tools, constrained=False, repeats=tried)
        error = ""
        self._note("this line may be a call in a plain form")
        try:
            yield from bare_calls.read(source, sink, alone=alone, ends=ENDS)
        except CutOff:
            error = "it does not end"
        except (ValueError, RecursionError) as found:
            error = str(found)
        if error or self._cut:
            # If it was cut off, its continuation is unknown.
            self._note(f"no call: {error or 'the answer was cut off'}")
            source.back(begin)
            return False
        self._note(f"calls read: {sink.n_calls}, and nothing follows them", sink)
        self._sink.adopt(sink)
        self.looped = sink.looped
        return True
