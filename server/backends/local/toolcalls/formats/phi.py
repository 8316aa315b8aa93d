"""`<|tool_call|>[{"name": ..., "arguments": {...}}]<|/tool_call|>`, as Phi-4-mini writes it.

Also `functools[...]`, which it falls back to.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.formats.objects import Listed


class Phi(Listed):
    """A list between markers."""

    name = "phi"
    signs = ("<|tool|>",)
    starts = ("<|tool_call|>", "functools")
    closed = "]<|/tool_call|>"
    ends = ("<|/tool_call|>",)
