"""Whether a model fits into this machine's memory, and with how long a conversation.

Only headers and small files are read, also of a model on the Hub: nothing large is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.engine.hardware.device import Device
from mlxdeck.server.backends.local.engine.models.context_window import ContextWindow
from mlxdeck.server.backends.local.engine.models.hub import headers
from mlxdeck.server.backends.local.engine.models.kv_size import kv_bytes, value_bytes
from mlxdeck.server.backends.local.engine.models.model_folder import ModelFolder, examined
from mlxdeck.server.backends.local.engine.models.weight_files import weight_files
from mlxdeck.server.backends.local.engine.models.weight_sizes import (
    TensorHeader,
    loaded_bytes,
    tensor_headers,
)
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format

WORK_BYTES = 1 << 30
"""For what a step computes with, beside weights and states."""
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Fit:
    """A model in a machine's memory."""

    name: str
    weight_bytes: int
    limit_bytes: int
    """What the machine lets a model have."""
    window: ContextWindow
    kv_tokens: int
    """How many tokens of conversations fit beside the weights; as many as the window at most.

    -1 if the config lacks the facts.
    """
    tool_format: str

    @property
    def fits(self) -> bool:
        """Whether it can be served at all."""
        return self.weight_bytes + WORK_BYTES <= self.limit_bytes and self.kv_tokens != 0

    def verdict(self) -> str:
        """For a person."""
        sizes = f"{_gib(self.weight_bytes)} of {_gib(self.limit_bytes)}"
        if not self.fits:
            return f"does not fit: its weights take {sizes}"
        if self.kv_tokens < 0:
            return f"fits: its weights take {sizes}"
        if self.kv_tokens >= self.window.tokens:
            return f"fits: its weights take {sizes}, and its whole window has room"
        return (
            f"fits, for conversations of up to {self.kv_tokens:,} tokens: its weights take {sizes}"
        )


def local_fit(name: str, folder: Path, device: Device) -> Fit:
    """Of a model in a folder.

    Raises:
        EngineFailed: A file that is needed is missing or broken.
    """
    found = examined(folder, folder)
    files = weight_files(folder, [])
    return _fit(name, found, [each for file in files for each in tensor_headers(file)], device)


def remote_fit(name: str, device: Device) -> Fit:
    """Of a model on the Hub.

    Raises:
        ModelNotFound: There is none, or it can't be reached.
        EngineFailed: A file that is needed is missing or broken.
    """
    with headers(name) as (folder, tensors):
        return _fit(name, examined(folder, folder), tensors, device)


def _fit(name: str, folder: ModelFolder, tensors: list[TensorHeader], device: Device) -> Fit:
    on_cpu = device.kind == "cpu"
    n_bytes = loaded_bytes(tensors, folder.config, widened=on_cpu)
    spare = device.model_bytes - n_bytes - WORK_BYTES
    source = folder.templates.by_name.get(folder.templates.chosen, "")
    tools = choose_format("auto", TemplateTraits(source=source)).name
    width = value_bytes(device.kind)
    fitting = _fitting_tokens(folder.config, folder.window.tokens, spare, width)
    return Fit(name, n_bytes, device.model_bytes, folder.window, fitting, tools)


def _fitting_tokens(
    config: Mapping[str, Any], window_tokens: int, spare_bytes: int, width: int
) -> int:
    """The longest conversation whose states fit; layers with a window of their own don't grow."""
    if not kv_bytes(config, window_tokens, width):
        return -1
    fits, too_long = 0, window_tokens + 1
    while fits + 1 < too_long:
        middle = (fits + too_long) // 2
        if kv_bytes(config, middle, width) <= spare_bytes:
            fits = middle
        else:
            too_long = middle
    return fits


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / GIB:,.1f} GiB"
