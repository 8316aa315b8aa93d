"""`<|tool_call|>[{"name": ..., "arguments": {...}}]`, as IBM's Granite 3 writes it.

Granite 4 writes what `json_tags` reads.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.formats.objects import Listed


class Granite(Listed):
    """A list behind one marker, with nothing after it."""

    name = "granite"
    signs = ("<|tool_call|>", "granite")
    starts = ("<|tool_call|>", "<tool_call>")
    ends = ("</tool_call>",)
