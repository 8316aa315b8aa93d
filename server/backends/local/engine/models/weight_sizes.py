"""How much memory a model's weights take, from the headers of its files. Pure."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BITS = {"64": 64, "32": 32, "16": 16, "F8": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4}
"""Bits of a value, by a part of the name of its type in safetensors."""
_PACKED = "U32"
"""The type in which MLX keeps quantised weights."""
DEFAULT_GROUP = 64


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a header says of one tensor."""

    name: str
    dtype: str
    """As safetensors spells it, for example BF16."""
    shape: Sequence[int]

    @property
    def n_values(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """As they lie in the file."""
        return self.n_values * next((n for key, n in _BITS.items() if key in self.dtype), 16) // 8


def tensor_headers(path: Path) -> list[TensorHeader]:
    """The tensors of a safetensors file that is known to be whole (see `check_whole`)."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    return [
        TensorHeader(name, str(tensor["dtype"]), tensor["shape"])
        for name, tensor in header.items()
        if name != "__metadata__"
    ]


def loaded_bytes(
    tensors: Iterable[TensorHeader], config: Mapping[str, Any], *, widened: bool
) -> int:
    """Bytes of the loaded weights.

    `widened` is for the CPU, where everything is held in fp32 (see `loader.load_weights`).
    """
    by_name = {each.name: each for each in tensors}
    if not widened:
        return sum(each.n_bytes for each in by_name.values())
    total = 0
    for name, tensor in by_name.items():
        layer, _, kind = name.rpartition(".")
        scales = by_name.get(f"{layer}.scales")
        if kind in ("scales", "biases") and f"{layer}.weight" in by_name:
            continue
        packed = kind == "weight" and tensor.dtype == _PACKED and scales is not None
        n = scales.n_values * _group(config, layer) if packed and scales else tensor.n_values
        total += 4 * n
    return total


def _group(config: Mapping[str, Any], layer: str) -> int:
    """Weights that share a scale; single layers may have a value of their own."""
    told = config.get("quantization")
    if not isinstance(told, Mapping):
        return DEFAULT_GROUP
    own = told.get(layer)
    for source in (own, told):
        if isinstance(source, Mapping) and isinstance(source.get("group_size"), int):
            return int(source["group_size"])
    return DEFAULT_GROUP
