"""`<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value></tool_call>`.

As GLM 4.5 and later write it, with or without line breaks between the parts.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.formats.qwen3_coder import Qwen3Coder
from mlxdeck.server.backends.local.toolcalls.formats.tagged import Tagged
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME
from mlxdeck.server.backends.local.toolcalls.reading.python_calls import read_named
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader

_QWEN = Qwen3Coder()


class Glm(Tagged):
    """The bare name follows the start."""

    name = "glm"
    signs = ("<arg_key>", "<tool_call>")
    starts = ("<tool_call>",)
    closed = "</tool_call>"
    name_tags = ("", "\n")
    key_tags = ("<arg_key>", "</arg_key>")
    value_tags = ("<arg_value>", "</arg_value>\n")
    tail = ""

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """One call; or what Qwen's models write between the same tags."""
        yield from source.skip()
        if (yield from read_named(source, sink)):
            yield from source.skip()
            yield from source.match(self.closed)
            sink.done_to = source.place
            return
        other = (yield from source.peek()) in ("{", "[", "<")
        yield from (_QWEN.read if other else super().read)(source, sink, start)

    def _name(self, source: StreamReader) -> Reading[str]:
        ends = (self.key_tags[0], "\n", "{", self.closed)
        name, end = yield from source.until(*ends, at_most=MAX_NAME)
        if end != "\n":
            source.back(source.place - len(end))
        return name.strip()
