"""Names that `--tool-format` takes: those of mlxdeck's own formats, and of installed plug-ins.

A plug-in is an entry point; finding one loads none of its code.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint

from mlxdeck.server import plug_ins as installed

TOOL_FORMATS = (
    *("json_tags", "qwen3_coder", "glm", "minimax", "deepseek_v3", "deepseek_v31", "kimi_k2"),
    *("mistral", "mistral_v3", "llama3", "llama4", "pythonic", "function_gemma", "gemma4"),
    *("harmony", "granite", "phi"),
)
"""The names in `toolcalls.formats.registry.FORMATS`, known here without loading them."""
GROUP = "mlxdeck.tool_formats"
"""The group of the entry points."""


def plug_ins() -> dict[str, EntryPoint]:
    """Entry points of installed plug-ins, by name. mlxdeck's own names can't be taken."""
    return installed.found(GROUP, {"auto", *TOOL_FORMATS})
