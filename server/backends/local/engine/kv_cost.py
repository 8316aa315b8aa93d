"""How many bytes the KV cache of a sequence takes, layer by layer. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

STEP_TOKENS = 256
"""mlx-lm's caches grow by so many tokens at once; so much of them may be empty."""
COPIED_LAYERS = 5
"""Of a buffer that is copied, so many layers are there twice at the same time: MLX makes room for
some operations ahead, and a layer takes two."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """The cache of one layer, or of one part of it."""

    token_bytes: float = 0.0
    """Of each token that it holds."""
    most_tokens: int = 0
    """It holds no more than so many; 0 if it holds all."""
    fixed_bytes: int = 0
    """What it takes whatever it has read, as a running state."""


@dataclass(frozen=True, slots=True)
class KVCost:
    """All layers. Without any, nothing is known, and every sequence is free of charge."""

    layers: tuple[LayerCost, ...] = ()
    widest: LayerCost = LayerCost()
    """The one that takes most a token."""

    @classmethod
    def of(cls, layers: Iterable[LayerCost]) -> KVCost:
        """The same, with layers of one kind as one: it is asked for often."""
        kinds: dict[int, LayerCost] = {}
        found = list(layers)
        for each in found:
            same = kinds.get(each.most_tokens, LayerCost())
            kinds[each.most_tokens] = LayerCost(
                same.token_bytes + each.token_bytes,
                each.most_tokens,
                same.fixed_bytes + each.fixed_bytes,
            )
        return cls(tuple(kinds.values()), max(found, key=_width, default=LayerCost()))

    def beside(self, other: KVCost) -> KVCost:
        """Of a sequence that both models read."""
        whole = KVCost.of((*self.layers, *other.layers))
        return replace(whole, widest=max(self.widest, other.widest, key=_width))

    def bytes_of(self, n_tokens: int) -> int:
        """The most that a sequence of so many tokens takes, with the room to grow into."""
        return int(sum(_bytes_of(each, n_tokens) for each in self.layers)) if n_tokens > 0 else 0

    def least_bytes_of(self, n_tokens: int) -> int:
        """What so many tokens fill, without any room to grow into."""
        return int(sum(_filled(each, n_tokens) for each in self.layers)) if n_tokens > 0 else 0

    def copy_bytes(self, n_rows: int, n_tokens: int) -> int:
        """What is held twice while a buffer of so many rows grows or is put together anew.

        Layers are copied one after another.
        """
        copied = COPIED_LAYERS * _bytes_of(self.widest, n_tokens)
        return n_rows * min(int(copied), self.bytes_of(n_tokens))

    def most_tokens(self, n_bytes: int, enough: int) -> int:
        """How many tokens fit into so many bytes; no further than `enough`."""
        low, high = 0, enough
        while low < high:
            middle = (low + high + 1) // 2
            if self.bytes_of(middle) <= n_bytes:
                low = middle
            else:
                high = middle - 1
        return low


def _width(layer: LayerCost) -> float:
    return layer.token_bytes


def _bytes_of(layer: LayerCost, n_tokens: int) -> float:
    return _filled(layer, n_tokens + STEP_TOKENS)


def _filled(layer: LayerCost, n_tokens: int) -> float:
    n_held = min(n_tokens, layer.most_tokens) if layer.most_tokens else n_tokens
    return layer.fixed_bytes + n_held * layer.token_bytes
