"""Kinds of backends that settings may name: mlxdeck's own, and those of installed plug-ins.

A plug-in is an entry point; finding one loads none of its code.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint

from mlxdeck.server import plug_ins as installed

LOCAL = "local"
"""A model on this machine. Also the name of that backend, where settings give it none."""
SMALL = "small"
"""Name of the backend of the second model on this machine."""
UPSTREAM = "upstream"
"""Another server, which a URL names."""
PRESETS = ("lmstudio", "ollama", "mlx_lm", "openai", "anthropic")
"""The names of `backends.upstream.config.PRESETS`, known here without loading them."""
KINDS = (LOCAL, UPSTREAM, *PRESETS)
GROUP = "mlxdeck.backends"
"""The group of the entry points."""


def plug_ins() -> dict[str, EntryPoint]:
    """Entry points of installed plug-ins, by name. mlxdeck's own names can't be taken."""
    return installed.found(GROUP, KINDS)
