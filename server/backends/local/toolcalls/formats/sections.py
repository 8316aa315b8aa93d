"""Calls in a section between markers, each between its own markers: DeepSeek, Kimi K2."""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter, ToolCallError
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME, read_arguments
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec

_FENCE = "```"


def read_none(source: StreamReader, sink: CallEmitter, tool: ToolSpec, *ends: str) -> Reading[bool]:
    """Whether the call is over without arguments, and needs none; it is then made."""
    yield from source.skip()
    begin = source.place
    over = bool((yield from source.any_of(*ends)))
    source.back(begin)
    over = over or (not (yield from source.peek()) and not source.cut)
    if not over or tool.input_schema.get("required"):
        return False
    sink.put(tool, {}, repaired=True)
    return True


class Sections(ToolFormat):
    """The markers around the calls; a format defines how one call begins."""

    calls: tuple[str, ...]
    """What begins a call: as the format has it, and as models miswrite it."""
    call_ends: tuple[str, ...]
    ends: tuple[str, ...]

    @property
    def markers(self) -> tuple[str, ...]:
        """And those around each call."""
        return (*super().markers, *self.calls, *self.call_ends, *self.ends)

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Calls up to the end of the section; one that began without a section ends alone."""
        inside = start not in self.calls
        if not inside:
            yield from self._call(source, sink)
        while True:
            yield from source.skip()
            if (yield from source.any_of(*self.calls)):
                yield from self._call(source, sink)
            elif (yield from source.any_of(*self.ends)) or not (yield from source.peek()):
                break
            elif inside:
                raise ToolCallError("a call was expected")
            else:
                break
        sink.done_to = source.place

    def head(self, source: StreamReader) -> Reading[str]:
        """Read up to the arguments; returns the name of the tool."""
        raise NotImplementedError

    def head_up_to(self, source: StreamReader, *ends: str) -> Reading[str]:
        """The text up to what ends a head; a call that begins before that is another one.

        Raises:
            ToolCallError: Another one begins.
        """
        text, mark = yield from source.until(*ends, *self.starts, at_most=MAX_NAME)
        if mark not in ends:
            source.back(source.place - len(mark))
            raise ToolCallError("another call begins within its head")
        return text

    def _call(self, source: StreamReader, sink: CallEmitter) -> Reading[None]:
        tool = sink.tool((yield from self.head(source)))
        yield from source.skip()
        fenced = yield from source.match(_FENCE)
        if fenced:
            yield from source.until("\n")
        if not (yield from read_none(source, sink, tool, _FENCE, *self.call_ends, *self.ends)):
            sink.begin(tool)
            yield from read_arguments(source, sink, tool)
            sink.end()
        yield from source.skip()
        if fenced:
            yield from source.match(_FENCE)
            yield from source.skip()
        yield from source.any_of(*self.call_ends)
        sink.done_to = source.place
