"""Calls in the forms of other families, which models write that were trained on several."""

from __future__ import annotations

from collections.abc import Mapping

from mlxdeck.server.backends.local.toolcalls.formats.json_tags import JsonTags
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat

# The order decides who reads a start that several have.
_READ_BY = (
    *("json_tags", "qwen3_coder", "minimax", "kimi_k2", "deepseek_v31", "mistral", "llama3"),
    *("pythonic", "llama4", "gemma4", "function_gemma", "phi"),
)
_NO_SIGN = ("functools",)
"""Starts that are words of their own."""
_WRAPPED = ("tools", "function_call", "function_calls", "functioncall", "tool_use", "tool_calls")


class Wrapped(JsonTags):
    """The text between two tags, which is itself between other tags."""

    def __init__(self, tag: str) -> None:
        self.starts = (f"<{tag}>",)
        self.closed = f"</{tag}>"


_WRAPPERS = tuple(map(Wrapped, _WRAPPED))
STARTS: Mapping[str, ToolFormat] = {
    **{form.starts[0]: form for form in _WRAPPERS},
    **{
        start: FORMATS[name]
        for name in reversed(_READ_BY)
        for start in FORMATS[name].starts
        if start not in _NO_SIGN
    },
}
"""What opens a call anywhere, and who reads it."""
ENDS = tuple(
    dict.fromkeys(
        end
        for form in (*_WRAPPERS, *FORMATS.values())
        if (end := form.closed.strip()).startswith("<")
    )
) + ("</function>", "</tool>")
"""What closes one, and may be all that is left of the tags."""
