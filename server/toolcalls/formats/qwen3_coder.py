"""`<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`.

As Qwen3-Coder and Qwen3.5 write it; they are known to leave the outer tag out.
"""

from __future__ import annotations

from mlxdeck.server.toolcalls.formats.objects import read_objects
from mlxdeck.server.toolcalls.formats.tagged import Tagged
from mlxdeck.server.toolcalls.sink import Sink
from mlxdeck.server.toolcalls.source import Reading, Source


class Qwen3Coder(Tagged):
    """Values on lines of their own."""

    name = "qwen3_coder"
    signs = ("<tool_call>", "<function=", "<parameter=")
    starts = ("<tool_call>", "<function=")
    opened = "\n"
    closed = "\n</tool_call>"
    name_tags = ("<function=", ">\n")
    key_tags = ("<parameter=", ">\n")
    value_tags = ("", "\n</parameter>\n")
    tail = "</function>"

    def read(self, source: Source, sink: Sink, start: str) -> Reading[None]:
        """Calls; between the same tags, these models also write JSON."""
        if start == self.starts[0]:
            yield from source.skip()
            if (yield from source.peek()) in ("{", "["):
                yield from read_objects(source, sink, self.closed.strip())
                return
        yield from super().read(source, sink, start)
