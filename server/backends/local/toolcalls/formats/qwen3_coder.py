"""`<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`.

As Qwen3-Coder and Qwen3.5 write it; they are known to leave the outer tag out.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.formats.objects import read_objects
from mlxdeck.server.backends.local.toolcalls.formats.tagged import Tagged
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader


class _Attributes(Tagged):
    """The same with names as attributes."""

    name = "qwen3_coder"
    starts = ("<tool_call>", '<function name="')
    closed = "\n</tool_call>"
    name_tags = ('<function name="', '">\n')
    key_tags = ('<parameter name="', '">\n')
    value_tags = ("", "\n</parameter>\n")
    tail = "</function>"


_ATTRIBUTES = _Attributes()


class Qwen3Coder(Tagged):
    """Values on lines of their own."""

    name = "qwen3_coder"
    signs = ("<tool_call>", "<function=", "<parameter=")
    starts = ("<tool_call>", "<function=", '<function name="')
    opened = "\n"
    closed = "\n</tool_call>"
    name_tags = ("<function=", ">\n")
    key_tags = ("<parameter=", ">\n")
    value_tags = ("", "\n</parameter>\n")
    tail = "</function>"

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Calls; between the same tags, these models also write JSON."""
        if start == self.starts[0]:
            yield from source.skip()
            if (yield from source.peek()) in ("{", "["):
                yield from read_objects(source, sink, self.closed.strip())
                return
            begin = source.place
            other = yield from source.match(_ATTRIBUTES.starts[1])
            source.back(begin)
        else:
            other = start in _ATTRIBUTES.starts
        yield from (_ATTRIBUTES.read if other else super().read)(source, sink, start)
