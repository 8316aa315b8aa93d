"""Files of KV states, as mlx-lm writes them: read on any thread, made into states on the engine's.

mlx-lm's own reader makes lazy arrays, which read the file where they are computed: on the engine
thread, with everyone waiting. An array that is made of bytes in memory is complete at once and ties
itself to no thread. Source of the format: https://github.com/huggingface/safetensors (eight bytes
of length, a JSON header, the tensors).
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten
from mlx_lm.models import cache as caches

from mlxdeck.server.backends.local.engine.api import State, StateDamaged
from mlxdeck.server.errors import one_line

MAX_HEADER_BYTES = 16 * 1024**2
# Names of the format: numpy's names, and MLX's types where numpy has none.
DTYPES: dict[str, tuple[str, Any]] = {
    "BOOL": ("?", None),
    "BF16": ("<u2", mx.bfloat16),
    "F16": ("<f2", None),
    "F32": ("<f4", None),
    **{f"I{8 * n}": (f"<i{n}", None) for n in (1, 2, 4, 8)},
    **{f"U{8 * n}": (f"<u{n}", None) for n in (1, 2, 4, 8)},
}


@dataclass(frozen=True, slots=True)
class StateFile:
    """Contents of a file."""

    arrays: dict[str, mx.array]
    """Complete; those of a type that numpy lacks are numbers of the same size."""
    views: dict[str, Any]
    """The types that those have in truth."""
    metadata: dict[str, str]


def read(path: Path) -> StateFile:
    """Read a file. Any thread: nothing is computed.

    Raises:
        StateDamaged: It isn't one, or isn't there.
    """
    try:
        with path.open("rb") as file:
            return _parsed(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise StateDamaged(f"{path.name} holds no state: {one_line(error)}") from None


def _parsed(whole: mmap.mmap) -> StateFile:
    (n_header,) = struct.unpack("<Q", whole[:8])
    if n_header > min(MAX_HEADER_BYTES, len(whole) - 8):
        raise ValueError("its header is longer than the file")
    header = json.loads(whole[8 : 8 + n_header])
    metadata = header.pop("__metadata__", {})
    arrays, views = {}, {}
    for name, about in header.items():
        kind, view = DTYPES[about["dtype"]]
        start, _ = about["data_offsets"]
        shape = tuple(about["shape"])
        numbers = np.frombuffer(whole, kind, math.prod(shape), 8 + n_header + start)
        arrays[name] = mx.array(numbers.reshape(shape))
        if view is not None:
            views[name] = view
    return StateFile(arrays, views, metadata)


def state(file: StateFile) -> State:
    """The state of a file that was read. Engine thread.

    Raises:
        StateDamaged: It is none.
    """
    try:
        arrays: dict[str, Any] = {
            name: array.view(file.views[name]) if name in file.views else array
            for name, array in file.arrays.items()
        }
        _, classes, scalars = tree_unflatten(list(file.metadata.items()))
        for name, kind in scalars[1:]:
            arrays[name] = _scalar(arrays[name], kind)
        parts = tree_unflatten(list(arrays.items()))
        made = [_class(name).from_state(part) for name, part in zip(classes, parts, strict=True)]
        mx.eval([layer.state for layer in made])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise StateDamaged(f"the file holds no state: {one_line(error)}") from None
    return made


def _scalar(array: mx.array, kind: str) -> Any:
    """A value that mlx-lm has written as an array."""
    if kind == "scalar":
        return array.item()
    if kind == "string":
        return "".join(map(chr, array.tolist()))  # type: ignore[arg-type]
    if kind == "none":
        return None
    raise ValueError(f"a value of kind {kind!r:.40}")


def _class(name: str) -> Any:
    """One of mlx-lm's caches, and nothing else that has a name there."""
    found = getattr(caches, name)
    if not (isinstance(found, type) and issubclass(found, caches._BaseCache)):
        raise ValueError(f"{name!r:.40} is no cache")
    return found
