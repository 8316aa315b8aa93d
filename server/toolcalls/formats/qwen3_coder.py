"""`<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`.

As Qwen3-Coder and Qwen3.5 write it; they are known to leave the outer tag out.
"""

from __future__ import annotations

from mlxdeck.server.toolcalls.formats.tagged import Tagged


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
