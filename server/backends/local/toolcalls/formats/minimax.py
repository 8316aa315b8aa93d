"""`<minimax:tool_call><invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke>...`.

As MiniMax M2 writes it, https://huggingface.co/MiniMaxAI/MiniMax-M2/blob/main/docs.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.formats.tagged import Tagged
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader


class _Quotes(Tagged):
    """The same in other quotes."""

    name = "minimax"
    starts = ("<minimax:tool_call>", "<invoke name='")
    closed = "\n</minimax:tool_call>"
    name_tags = ("<invoke name='", "'>\n")
    key_tags = ("<parameter name='", "'>")
    value_tags = ("", "</parameter>\n")
    tail = "</invoke>"


_QUOTES = _Quotes()


class MiniMax(Tagged):
    """Several calls between the outer tags."""

    name = "minimax"
    signs = ("<minimax:tool_call>",)
    # The outer tag is left out at times.
    starts = ("<minimax:tool_call>", '<invoke name="', "<invoke name='")
    opened = "\n"
    between = "\n"
    closed = "\n</minimax:tool_call>"
    name_tags = ('<invoke name="', '">\n')
    key_tags = ('<parameter name="', '">')
    value_tags = ("", "</parameter>\n")
    tail = "</invoke>"

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Calls, in either quotes."""
        other = start == _QUOTES.starts[1]
        if start == self.starts[0]:
            yield from source.skip()
            begin = source.place
            other = yield from source.match(_QUOTES.starts[1])
            source.back(begin)
        yield from (_QUOTES.read if other else super().read)(source, sink, start)
