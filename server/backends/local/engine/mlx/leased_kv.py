"""A leased prefix as mlx-lm's batches take it: keys and values of one layer that lie in blocks.

`merge` writes the blocks straight into the buffer of a batch, with room for what is to come, so
that each byte of a lease is copied once. Engine thread, but for the making of leases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache

from mlxdeck.server.backends.local.engine.mlx.kv_precision import EightBits, in_eight_bits

ROOM_TOKENS = 256
"""mlx-lm lets a buffer grow by so many tokens, and copies all of it each time."""

Stored = mx.array | EightBits


@dataclass(frozen=True, slots=True)
class LayerBlock:
    """Keys and values of one layer and a run of tokens: shape [1, heads, tokens, size].

    Each may lie in 8 bits.
    """

    keys: Stored
    values: Stored

    def read(self) -> tuple[mx.array, mx.array]:
        """As the model computes with them. Lazy."""
        return _read(self.keys), _read(self.values)

    def first(self, n: int) -> LayerBlock:
        """The first tokens, in memory of their own and as precise. Lazy."""
        return LayerBlock(_first(self.keys, n), _first(self.values, n))

    def quantized(self) -> LayerBlock:
        """In 8 bits, as far as that can be done and isn't. Lazy."""
        return LayerBlock(_quantized(self.keys), _quantized(self.values))

    @property
    def is_quantized(self) -> bool:
        """Whether any of it lies in 8 bits."""
        return isinstance(self.keys, EightBits) or isinstance(self.values, EightBits)

    @property
    def arrays(self) -> list[mx.array]:
        """All that it consists of."""
        both = (self.keys, self.values)
        return [
            a for each in both for a in (each.arrays if isinstance(each, EightBits) else [each])
        ]

    @property
    def n_tokens(self) -> int:
        """The length of the run."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Memory of both."""
        return int(self.keys.nbytes + self.values.nbytes)


class LeasedKV(KVCache):  # type: ignore[misc]
    """The first tokens of some blocks. Never written to."""

    copied_bytes = 0
    """Of all leases that were ever written into batches."""

    def __init__(self, blocks: Sequence[LayerBlock] = (), n_tokens: int = 0) -> None:
        self.blocks = blocks
        self.offset = n_tokens
        self.room_tokens = 0
        """Total that the sequence is going to need at first."""

    def pieces(self) -> list[tuple[mx.array, mx.array]]:
        """Keys and values of each block, the last one cut to what is leased."""
        pieces, left = [], self.offset
        for block in self.blocks:
            keys, values = block.read()
            n = min(left, block.n_tokens)
            whole = n == block.n_tokens
            pieces.append((keys, values) if whole else (keys[..., :n, :], values[..., :n, :]))
            left -= n
        return pieces

    @property
    def keys(self) -> mx.array | None:
        """All keys as one array, for those that know no `merge`."""
        return _joined([keys for keys, _ in self.pieces()])

    @property
    def values(self) -> mx.array | None:
        """All values."""
        return _joined([values for _, values in self.pieces()])

    @property
    def nbytes(self) -> int:
        """Of the blocks, which others may share."""
        return sum(block.nbytes for block in self.blocks)

    def empty(self) -> bool:
        """Whether nothing is leased."""
        return not self.offset

    def update_and_fetch(self, keys: Any, values: Any) -> Any:
        """Nothing is added to what is leased.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a leased prefix is merged into a batch before anything is added to it")

    @classmethod
    def merge(cls, caches: Sequence[KVCache]) -> BatchKVCache:
        """The batch of these rows, aligned to the right, with room on the right."""
        lengths = [each.size() for each in caches]
        longest = max(lengths)
        if not longest:
            return RowsKV([0] * len(caches))
        batch = RowsKV([longest - n for n in lengths])
        rooms = [getattr(each, "room_tokens", 0) for each in caches]
        width = longest + max(0, *(a - b for a, b in zip(rooms, lengths, strict=True)))
        rows = [_pieces(each) for each in caches]
        batch.keys = _buffer([[keys for keys, _ in row] for row in rows], longest, width)
        batch.values = _buffer([[values for _, values in row] for row in rows], longest, width)
        batch.offset += longest
        batch._idx = longest
        return batch


class RowsKV(BatchKVCache):  # type: ignore[misc]
    """mlx-lm's batch, whose rows are taken out as views: a block copies what it needs of one."""

    def extract(self, idx: int) -> KVCache:
        """One row, without its padding; it keeps the batch alive."""
        mx.eval(self.left_padding)
        start = self.left_padding.tolist()[idx]
        row = KVCache()
        row.keys = self.keys[idx : idx + 1, :, start : self._idx]
        row.values = self.values[idx : idx + 1, :, start : self._idx]
        row.offset = row.keys.shape[2]
        return row


def _read(stored: Stored) -> mx.array:
    return stored.read() if isinstance(stored, EightBits) else stored


def _first(stored: Stored, n: int) -> Stored:
    if isinstance(stored, EightBits):
        return stored.first(n)
    return mx.contiguous(stored[..., :n, :])


def _quantized(stored: Stored) -> Stored:
    return stored if isinstance(stored, EightBits) else in_eight_bits(stored) or stored


def _pieces(cache: KVCache) -> list[tuple[mx.array, mx.array]]:
    if isinstance(cache, LeasedKV):
        return cache.pieces()
    if cache.keys is None:
        return []
    return [(cache.keys[..., : cache.offset, :], cache.values[..., : cache.offset, :])]


def _joined(pieces: list[mx.array]) -> mx.array | None:
    return mx.concatenate(pieces, axis=2) if pieces else None


def _buffer(rows: list[list[mx.array]], longest: int, width: int) -> mx.array:
    """Rows of pieces of shape [1, heads, tokens, size], in one array of `width` tokens a row."""
    one = next(piece for row in rows for piece in row)
    LeasedKV.copied_bytes += sum(piece.nbytes for row in rows for piece in row)
    heads, size = one.shape[1], one.shape[3]
    if len(rows) == 1:
        room = [mx.zeros((1, heads, width - longest, size), one.dtype)] if width > longest else []
        return mx.concatenate([*rows[0], *room], axis=2)
    buffer = mx.zeros((len(rows), heads, width, size), one.dtype)
    for n, row in enumerate(rows):
        at = longest - sum(piece.shape[2] for piece in row)
        for piece in row:
            end = at + piece.shape[2]
            buffer[n : n + 1, :, at:end] = piece
            at = end
    return buffer
