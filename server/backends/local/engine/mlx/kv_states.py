"""KV states of mlx-lm, one cache object a layer: copied, cut, measured and stored."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import (
    CacheList,
    ConcatenateKVCache,
    KVCache,
    QuantizedKVCache,
    can_trim_prompt_cache,
    save_prompt_cache,
    trim_prompt_cache,
)

from mlxdeck.server.backends.local.engine.api import State, StoredState
from mlxdeck.server.backends.local.engine.mlx import kv_file
from mlxdeck.server.errors import EngineFailed, one_line


class MlxStates:
    """The `States` of mlx-lm. Every kept state has been evaluated."""

    def size_bytes(self, state: State) -> int:
        """Memory of all layers."""
        return sum(int(layer.nbytes) for layer in state)

    def trimmable(self, state: State) -> bool:
        """Whether all layers can leave out their last tokens, however many."""
        return always_trimmable(state)

    def copy(self, state: State, n_dropped: int) -> State:
        """A deep copy: arrays share their memory until one is written."""
        copied = copy.deepcopy(state)
        if n_dropped:
            trim_prompt_cache(copied, n_dropped)
        return copied

    def shrink(self, state: State, n_dropped: int) -> State:
        """Cut, and moved into arrays of exactly its size."""
        cut = self.copy(state, n_dropped)
        for layer in _plain_layers(cut):
            layer.keys = mx.contiguous(layer.keys[..., : layer.offset, :])
            layer.values = mx.contiguous(layer.values[..., : layer.offset, :])
        mx.eval([layer.state for layer in cut])
        return cut

    def save(self, state: State, path: Path) -> None:
        """Write mlx-lm's own safetensors form."""
        try:
            save_prompt_cache(str(path), state)
        except (RuntimeError, OSError) as error:
            raise EngineFailed(f"cannot write {path.name}: {one_line(error)}") from error

    def read(self, path: Path) -> StoredState:
        """Read it into memory, whole."""
        return kv_file.read(path)

    def restore(self, stored: StoredState) -> State:
        """A state of the arrays that were read."""
        return kv_file.state(stored)


def always_trimmable(state: State) -> bool:
    """Whether every layer can be cut back at any length: rotating ones can't once they are full."""
    return can_trim_prompt_cache(state) and all(_is_plain(layer) for layer in state)


def _is_plain(layer: Any) -> bool:
    if isinstance(layer, CacheList):
        return all(_is_plain(each) for each in layer.caches)
    return isinstance(layer, KVCache | ConcatenateKVCache | QuantizedKVCache)


def _plain_layers(state: State) -> list[Any]:
    """The layers whose arrays grow with the number of tokens."""
    layers = []
    for layer in state:
        inner = layer.caches if isinstance(layer, CacheList) else [layer]
        layers += [each for each in inner if isinstance(each, KVCache)]
    return layers
