"""`<minimax:tool_call><invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke>...`.

As MiniMax M2 writes it, https://huggingface.co/MiniMaxAI/MiniMax-M2/blob/main/docs.
"""

from __future__ import annotations

from mlxdeck.server.toolcalls.formats.tagged import Tagged


class MiniMax(Tagged):
    """Several calls between the outer tags."""

    name = "minimax"
    signs = ("<minimax:tool_call>",)
    # The outer tag is left out at times.
    starts = ("<minimax:tool_call>", '<invoke name="')
    opened = "\n"
    between = "\n"
    closed = "\n</minimax:tool_call>"
    name_tags = ('<invoke name="', '">\n')
    key_tags = ('<parameter name="', '">')
    value_tags = ("", "</parameter>\n")
    tail = "</invoke>"
