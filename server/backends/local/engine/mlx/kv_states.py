"""KV states of mlx-lm, one cache object a layer, in parts that can be shared and stored.

A layer that keeps all keys and values (mlx-lm's `KVCache`) is cut into blocks. What others hold
(windows that rotate, recurrent states) is kept whole, as a checkpoint. Caches of several caches are
taken apart: each of theirs is a layer here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import CacheList, KVCache, RotatingKVCache

from mlxdeck.server.backends.local.engine.api import PackedPart, State, StatePart
from mlxdeck.server.backends.local.engine.mlx import kv_bytes
from mlxdeck.server.backends.local.engine.mlx.kv_precision import EightBits, checked
from mlxdeck.server.backends.local.engine.mlx.leased_kv import (
    ROOM_TOKENS,
    LayerBlock,
    LeasedKV,
    Stored,
)
from mlxdeck.server.errors import EngineFailed

Layout = tuple[tuple[bool, ...], ...]
"""For each layer its caches, several if it is a list of them: whether that one is cut."""


@dataclass(frozen=True, slots=True)
class KVBlock:
    """A run of tokens: keys and values of each layer that can be cut, in order."""

    n_tokens: int
    layout: Layout
    layers: tuple[LayerBlock, ...]


@dataclass(frozen=True, slots=True)
class KVCheckpoint:
    """Classes and states of the other layers, in order; all of it belongs to the checkpoint."""

    layers: tuple[tuple[type[Any], Any], ...]


class MlxStates:
    """The `States` of mlx-lm. Every part has been evaluated."""

    def is_cuttable(self, state: State) -> bool:
        """Whether all layers keep all keys and values."""
        return all(map(is_cut, _caches(state)))

    def block_bytes(self, state: State, start: int, end: int) -> int:
        """By the size of one token."""
        cut = [each for each in _caches(state) if is_cut(each) and each.offset]
        return sum((each.nbytes // each.keys.shape[2]) * (end - start) for each in cut)

    def checkpoint_bytes(self, state: State) -> int:
        """Of the layers that can't be cut, without what has left the window."""
        # Nothing of it is evaluated.
        return sum(_array_bytes(_state_of(each)) for each in _caches(state) if not is_cut(each))

    def block(self, state: State, start: int, end: int) -> KVBlock:
        """Of each layer, these tokens."""
        cut = [each for each in _caches(state) if is_cut(each)]
        if any(each.offset < end for each in cut):
            raise EngineFailed("a layer holds fewer tokens than were computed")
        return _block(_layout(state), cut, start, end)

    def cut(self, block: StatePart, n_tokens: int) -> KVBlock:
        """The same of a block."""
        layers = [layer.first(n_tokens) for layer in block.layers]
        return _evaluated(n_tokens, block.layout, layers)

    def quantized(self, part: StatePart) -> StatePart | None:
        """Each layer of a block whose heads can be divided into groups."""
        if not isinstance(part, KVBlock) or self.is_quantized(part):
            return None
        layers = [layer.quantized() for layer in part.layers]
        if not any(layer.is_quantized for layer in layers):
            return None
        return _evaluated(part.n_tokens, part.layout, layers)

    def is_quantized(self, part: StatePart) -> bool:
        """Whether any layer of a block is; a checkpoint never is."""
        return isinstance(part, KVBlock) and any(layer.is_quantized for layer in part.layers)

    def checkpoint(self, state: State) -> KVCheckpoint:
        """Copied, and without what has left the window."""
        layers = tuple(
            (type(each), tree_map(_own, _state_of(each)))
            for each in _caches(state)
            if not is_cut(each)
        )
        mx.eval([held for _, held in layers])
        return KVCheckpoint(layers)

    def size_bytes(self, part: StatePart) -> int:
        """Of all arrays."""
        if isinstance(part, KVBlock):
            return sum(layer.nbytes for layer in part.layers)
        return _array_bytes([held for _, held in part.layers])

    def lease(
        self, blocks: Sequence[StatePart], n_tokens: int, checkpoint: StatePart | None
    ) -> State:
        """Of each layer a cache that only names its blocks, or one of the checkpoint's arrays."""
        layout = blocks[-1].layout
        if any(each.layout != layout for each in blocks):
            raise EngineFailed("blocks of different models")
        n_cut = len(blocks[-1].layers)
        cut = iter([LeasedKV([b.layers[n] for b in blocks], n_tokens) for n in range(n_cut)])
        others = iter(checkpoint.layers if checkpoint is not None else ())
        state = []
        for layer in layout:
            caches = [next(cut) if is_cut else _restored(*next(others)) for is_cut in layer]
            state.append(caches[0] if len(caches) == 1 else CacheList(*caches))
        return state

    def pack(self, part: StatePart) -> PackedPart:
        """The memory of its arrays."""
        if isinstance(part, KVBlock):
            pairs = [[_held(layer.keys), _held(layer.values)] for layer in part.layers]
            return kv_bytes.packed({"n": part.n_tokens, "layout": part.layout}, pairs)
        names = [kind.__name__ for kind, _ in part.layers]
        return kv_bytes.packed({"classes": names}, [held for _, held in part.layers])

    def restore(self, about: str, data: Any) -> StatePart:
        """A block or a checkpoint, complete."""
        told, held = kv_bytes.unpacked(about, data)
        with kv_bytes.refused():
            if "classes" in told:
                kinds = [kv_bytes.cache_class(name) for name in told["classes"]]
                return KVCheckpoint(tuple(zip(kinds, held, strict=True)))
            layers = tuple(LayerBlock(_stored(keys), _stored(values)) for keys, values in held)
            layout = tuple(tuple(bool(each) for each in layer) for layer in told["layout"])
            if sum(map(sum, layout)) != len(layers):
                raise ValueError("it has layers of something else")
            if any(each.n_tokens != told["n"] for each in layers):
                raise ValueError("it has other tokens than it says")
            return KVBlock(told["n"], layout, layers)


def is_cut(cache: Any) -> bool:
    """Whether a cache keeps all keys and values. A window can only be cut until it is full."""
    return isinstance(cache, KVCache)


def always_cuttable(state: State) -> bool:
    """Whether every layer can be cut back at any length."""
    return all(map(is_cut, _caches(state)))


def empty_lease(state: State) -> State:
    """A new state whose batches are those of leases."""
    return [
        CacheList(*map(_empty, each.caches)) if isinstance(each, CacheList) else _empty(each)
        for each in state
    ]


def make_room(state: State, n_tokens: int) -> None:
    """Tell a lease how long its sequence is going to be at first."""
    for each in _caches(state):
        if isinstance(each, LeasedKV):
            each.room_tokens = -(-n_tokens // ROOM_TOKENS) * ROOM_TOKENS


def _empty(cache: Any) -> Any:
    return LeasedKV() if type(cache) is KVCache else cache


def _caches(state: State) -> Iterator[Any]:
    for layer in state:
        yield from layer.caches if isinstance(layer, CacheList) else (layer,)


def _layout(state: State) -> Layout:
    lists = [each.caches if isinstance(each, CacheList) else [each] for each in state]
    return tuple(tuple(map(is_cut, caches)) for caches in lists)


def _block(layout: Layout, caches: Sequence[KVCache], start: int, end: int) -> KVBlock:
    layers = [
        LayerBlock(
            mx.contiguous(each.keys[..., start:end, :]),
            mx.contiguous(each.values[..., start:end, :]),
        )
        for each in caches
    ]
    return _evaluated(end - start, layout, layers)


def _evaluated(n_tokens: int, layout: Layout, layers: Sequence[LayerBlock]) -> KVBlock:
    mx.eval([layer.arrays for layer in layers])
    return KVBlock(n_tokens, layout, tuple(layers))


def _held(stored: Stored) -> Any:
    return stored.arrays if isinstance(stored, EightBits) else stored


def _stored(held: Any) -> Stored:
    return checked(*held) if isinstance(held, tuple) else held


def _array_bytes(held: Any) -> int:
    return sum(each.nbytes for _, each in tree_flatten(held) if isinstance(each, mx.array))


def _own(held: Any) -> Any:
    return mx.contiguous(held) if isinstance(held, mx.array) else held


def _state_of(cache: Any) -> Any:
    """mlx-lm's state of a layer; of a window in order, only what is still seen."""
    if type(cache) is RotatingKVCache and not cache.keep and cache.keys is not None:
        n, seen = cache.keys.shape[2], cache.size()
        if cache._idx == n > seen:
            keys, values = cache.keys[..., -seen:, :], cache.values[..., -seen:, :]
            return keys, values, cache.offset, cache.keep, cache.max_size, seen
    return cache.state


def _restored(kind: type[Any], held: Any) -> Any:
    """A cache that may be changed: lists are copied, arrays are replaced and not written to."""
    return kind.from_state(copy.copy(held) if not isinstance(held, tuple | list) else _lists(held))


def _lists(held: Any) -> Any:
    """The same lists and tuples, anew."""
    if isinstance(held, list):
        return [_lists(each) for each in held]
    return tuple(map(_lists, held)) if isinstance(held, tuple) else held
