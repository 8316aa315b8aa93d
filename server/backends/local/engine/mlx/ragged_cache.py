"""KV caches of a batch whose rows begin at the left, each with a length of its own.

mlx-lm's batch caches end all rows at the same place, so a row that takes back tokens would have to
be moved. Here a row's length is a number: what lies behind it is not attended, and is written over
by the next pass. All layers of a batch share one `RowLengths`. Engine thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import mlx.core as mx
from mlx_lm.models.cache import (
    BatchKVCache,
    BatchRotatingKVCache,
    KVCache,
    RotatingKVCache,
    dynamic_roll,
)

STEP_TOKENS = 256
"""By so many tokens a buffer grows."""


class RowLengths:
    """How many tokens each row holds, in all layers."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self.n_changes = 0
        """Counted up whenever a length changes: what was written since belongs to a new pass."""
        self._array: mx.array | None = None

    @property
    def array(self) -> mx.array:
        """The lengths, shape [rows]."""
        if self._array is None:
            self._array = mx.array(self.lengths)
        return self._array

    def add(self, n_tokens: Sequence[int]) -> None:
        """Take over so many tokens of each row out of the last pass."""
        self._set([a + b for a, b in zip(self.lengths, n_tokens, strict=True)])

    def filter(self, keep: Sequence[int]) -> None:
        """Keep only these rows."""
        self._set([self.lengths[row] for row in keep])

    def extend(self, other: RowLengths) -> None:
        """Add another batch's rows."""
        self._set(self.lengths + other.lengths)

    def _set(self, lengths: list[int]) -> None:
        self.lengths, self._array = lengths, None
        self.n_changes += 1


class UncutRows:
    """In place of lengths, for caches that can't take tokens back: they count for themselves."""

    def add(self, n_tokens: Sequence[int]) -> None:
        """Nothing is kept."""

    def filter(self, keep: Sequence[int]) -> None:
        """Nothing is kept."""

    def extend(self, other: Any) -> None:
        """Nothing is kept."""


class RaggedKVCache:
    """Keys and values of one layer, shape [rows, heads, tokens, size]."""

    window: int | None = None
    """How many tokens it has to hold of a row; None for all."""

    def __init__(self, rows: RowLengths) -> None:
        self._rows = rows
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self._n_new = 0
        """Tokens that the pass which began at `_change` has written."""
        self._change = -1

    @classmethod
    def of(cls, batch: Any, rows: RowLengths) -> Self:
        """Take over a batch cache of mlx-lm; its arrays are moved only if rows are padded."""
        made = cls(rows)
        if batch.keys is not None:
            made._take(batch, batch.left_padding.tolist())
        return made

    def _take(self, batch: Any, padding: list[int]) -> None:
        # What a batch has room for stays, unless rows have to be moved anyway.
        is_moved = self.window is not None or any(padding)
        end = batch._idx if is_moved else batch.keys.shape[2]
        self.keys, self.values = (
            _rolled(each[..., :end, :], padding) for each in (batch.keys, batch.values)
        )

    @property
    def _held(self) -> list[int]:
        """Tokens of each row in the buffer, before the pass."""
        return self._rows.lengths

    @property
    def _pending(self) -> int:
        return self._n_new if self._change == self._rows.n_changes else 0

    @property
    def offset(self) -> mx.array:
        """Position of each row's next token, shape [rows]."""
        pending = self._pending
        return self._rows.array + pending if pending else self._rows.array

    def size(self) -> int:
        """Tokens of the longest row."""
        return max(self._rows.lengths, default=0)

    def empty(self) -> bool:
        """Whether nothing was written."""
        return self.keys is None

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None]:
        """The arrays."""
        return self.keys, self.values

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        if self.keys is None or self.values is None:
            return 0
        return int(self.keys.nbytes + self.values.nbytes)

    def is_trimmable(self) -> bool:
        """Rows are cut one by one, by their lengths."""
        return False

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Write new tokens behind each row's, and return all up to the longest."""
        n_new = keys.shape[2]
        begun = self._pending
        self._make_room(begun + n_new, keys, values)
        held = self._held
        starts = [each + begun for each in held]
        if len({*starts}) == 1:
            place = slice(starts[0], starts[0] + n_new)
            self.keys[..., place, :] = keys  # type: ignore[index]
            self.values[..., place, :] = values  # type: ignore[index]
        else:
            index = mx.array(starts)[:, None] + mx.arange(n_new)
            index = index[:, None, :, None]
            self.keys = _scattered(self.keys, index, keys)
            self.values = _scattered(self.values, index, values)
        self._n_new, self._change = begun + n_new, self._rows.n_changes
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """Both, up to the end of the longest row."""
        end = max(self._held) + self._pending
        assert self.keys is not None and self.values is not None
        return self.keys[..., :end, :], self.values[..., :end, :]

    def _make_room(self, n_new: int, keys: mx.array, values: mx.array) -> None:
        needed = max(self._held) + n_new
        have = 0 if self.keys is None else self.keys.shape[2]
        if needed > have:
            self._grow(needed, keys, values)

    def _grow(self, needed: int, keys: mx.array, values: mx.array) -> None:
        size = -(-needed // STEP_TOKENS) * STEP_TOKENS
        self.keys = _longer(self.keys, size, keys)
        self.values = _longer(self.values, size, values)

    def make_mask(
        self, N: int, window_size: int | None = None, return_array: bool = False
    ) -> mx.array | str | None:
        """What each of `N` new tokens of each row may attend; the names are mlx-lm's."""
        held = self._held
        window = window_size or self.window
        if len({*held}) == 1 and (window is None or held[0] + N <= window):
            if N == 1:
                return None
            if not return_array:
                return "causal"
        asked = mx.array(held)[:, None] + mx.arange(N)
        asked = asked[:, None, :, None]
        places = mx.arange(max(held) + N)
        mask = places <= asked
        if window is not None:
            mask = mask & (places > asked - window)
        return mask

    def filter(self, keep: Sequence[int]) -> None:
        """Keep only these rows; the lengths are filtered by the batch."""
        if self.keys is None or self.values is None:
            return
        rows, held = mx.array(list(keep)), self._held
        # The room of a longer one goes with it.
        longest = max((held[row] for row in keep), default=0)
        size = (longest // STEP_TOKENS + 1) * STEP_TOKENS
        self.keys, self.values = (
            each[..., : min(size, each.shape[2]), :][rows] for each in (self.keys, self.values)
        )

    def extend(self, other: Self) -> None:
        """Add another batch's rows; the lengths are added by the batch."""
        if self.keys is None and other.keys is None:
            return
        like_k, like_v = (
            (self.keys, self.values) if self.keys is not None else (other.keys, other.values)
        )
        size = max(0 if each.keys is None else each.keys.shape[2] for each in (self, other))
        n_rows = len(self._rows.lengths), len(other._rows.lengths)
        pairs = zip((self, other), n_rows, strict=True)
        padded = [
            (_longer(each.keys, size, like_k, n), _longer(each.values, size, like_v, n))
            for each, n in pairs
        ]
        keys, values = zip(*padded, strict=True)
        self.keys, self.values = mx.concatenate(list(keys)), mx.concatenate(list(values))

    def extract(self, row: int) -> Any:
        """One row, as mlx-lm has it; a view: whoever keeps it copies what it needs."""
        cache = KVCache()
        if self.keys is not None and self.values is not None:
            n = self._rows.lengths[row]
            cache.keys = self.keys[row : row + 1, :, :n]
            cache.values = self.values[row : row + 1, :, :n]
            cache.offset = n
        return cache


class RaggedWindowCache(RaggedKVCache):
    """The same for a layer that attends a window: older tokens are dropped now and then.

    A row holds a little more than the window, so that tokens can be taken back, and so that rows
    are moved once in many passes.
    """

    def __init__(self, rows: RowLengths, window: int = 0) -> None:
        super().__init__(rows)
        self.window = window
        self._dropped = [0] * len(rows.lengths)
        """Leading tokens of each row that the buffer doesn't hold any more."""

    @classmethod
    def of(cls, batch: Any, rows: RowLengths) -> Self:
        """Take over a rotating one."""
        made = super().of(batch, rows)
        made.window = batch.max_size
        return made

    def _take(self, batch: Any, padding: list[int]) -> None:
        batch._temporal_order()
        padding = [max(0, each) for each in padding]
        super()._take(batch, padding)
        held = [batch._idx - each for each in padding]
        self._dropped = [max(0, a - b) for a, b in zip(self._rows.lengths, held, strict=True)]

    @property
    def _held(self) -> list[int]:
        return [a - b for a, b in zip(self._rows.lengths, self._dropped, strict=True)]

    @property
    def _most(self) -> int:
        """Tokens of a row that the buffer may hold."""
        assert self.window is not None
        return self.window + max(32, self.window // 4)

    def _make_room(self, n_new: int, keys: mx.array, values: mx.array) -> None:
        self._drop(n_new)
        super()._make_room(n_new, keys, values)

    def _grow(self, needed: int, keys: mx.array, values: mx.array) -> None:
        step = -(-needed // STEP_TOKENS) * STEP_TOKENS
        size = max(needed, min(step, self._most))
        self.keys, self.values = _longer(self.keys, size, keys), _longer(self.values, size, values)

    def _drop(self, n_new: int) -> None:
        """Leave out what no token attends any more, once the buffer would get too long."""
        held = self._held
        if self._pending or self.keys is None or max(held) + n_new <= self._most:
            return
        assert self.window is not None and self.values is not None
        shifts = [max(0, each - self.window) for each in held]
        size = max(a - b for a, b in zip(held, shifts, strict=True))
        self.keys, self.values = (
            _rolled(each, shifts)[..., :size, :] for each in (self.keys, self.values)
        )
        self._dropped = [a + b for a, b in zip(self._dropped, shifts, strict=True)]

    def make_mask(
        self, N: int, window_size: int | None = None, return_array: bool = False
    ) -> mx.array | str | None:
        """As above. Called before the pass, which drops first what it drops."""
        self._drop(N)
        return super().make_mask(N, window_size, return_array)

    def filter(self, keep: Sequence[int]) -> None:
        """Keep only these rows."""
        super().filter(keep)
        self._dropped = [self._dropped[row] for row in keep]

    def extend(self, other: Self) -> None:
        """Add another batch's rows."""
        super().extend(other)
        self._dropped += other._dropped

    def extract(self, row: int) -> Any:
        """One row's own cache: its last tokens, in their order."""
        assert self.window is not None
        cache = RotatingKVCache(self.window)
        if self.keys is not None and self.values is not None:
            end = self._held[row]
            start = max(0, end - self.window)
            cache.keys = mx.contiguous(self.keys[row : row + 1, :, start:end])
            cache.values = mx.contiguous(self.values[row : row + 1, :, start:end])
            cache.offset, cache._idx = self._rows.lengths[row], end - start
        return cache


def ragged(caches: Sequence[Any]) -> tuple[RowLengths, list[RaggedKVCache]] | None:
    """The caches of a batch with rows that begin at the left; None if a layer can't be so."""
    kinds = [_kind(each) for each in caches]
    if not caches or None in kinds:
        return None
    rows = RowLengths(caches[0].offset.tolist())
    return rows, [kind.of(each, rows) for kind, each in zip(kinds, caches, strict=True) if kind]


def _kind(cache: Any) -> type[RaggedKVCache] | None:
    if isinstance(cache, BatchKVCache):
        return RaggedKVCache
    return RaggedWindowCache if isinstance(cache, BatchRotatingKVCache) else None


def _rolled(array: mx.array, shifts: list[int]) -> mx.array:
    """Each row moved to the left by as many tokens."""
    if not any(shifts):
        return array
    if len({*shifts}) == 1:
        return array[..., shifts[0] :, :]
    return dynamic_roll(array, -mx.array(shifts)[:, None], axis=2)  # type: ignore[no-any-return]


def _longer(array: mx.array | None, size: int, like: Any, n_rows: int = 0) -> mx.array:
    """With room for so many tokens; `like` tells the shape of what is not there yet."""
    if array is None:
        return mx.zeros((n_rows or like.shape[0], like.shape[1], size, like.shape[3]), like.dtype)
    lacking = size - array.shape[2]
    if lacking <= 0:
        return array
    return mx.pad(array, [(0, 0), (0, 0), (0, lacking), (0, 0)])


def _scattered(array: mx.array | None, index: mx.array, new: mx.array) -> mx.array:
    assert array is not None
    return mx.put_along_axis(array, mx.broadcast_to(index, new.shape), new, axis=2)
