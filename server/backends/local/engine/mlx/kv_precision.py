"""Keys and values in 8 bits, for states that nobody computes with: arrays in, arrays out.

Each group of numbers along the last axis has a scale and an offset of its own, as MLX quantises
weights. Below 8 bits, answers suffer; so there is no other width.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

BITS = 8
IN_A_WORD = 4
"""Numbers in 32 bits, as MLX packs them."""
GROUP_SIZES = (64, 32)
"""The larger one, where the size of a head allows it, takes less memory."""


def group_size(size: int) -> int:
    """Of an axis of that size; 0 if it can't be divided into groups."""
    return next((each for each in GROUP_SIZES if size and size % each == 0), 0)


@dataclass(frozen=True, slots=True)
class EightBits:
    """An array of any shape whose last axis consists of groups."""

    numbers: mx.array
    """Four to a word."""
    scales: mx.array
    offsets: mx.array
    """Both of the array's own type; one of each a group."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        *others, n_words = self.numbers.shape
        return (*others, IN_A_WORD * n_words)

    @property
    def nbytes(self) -> int:
        """Memory of all three."""
        return int(self.numbers.nbytes + self.scales.nbytes + self.offsets.nbytes)

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array]:
        """All three."""
        return self.numbers, self.scales, self.offsets

    def read(self) -> mx.array:
        """The array again, in its own type and nearly its own numbers. Lazy."""
        size = self.shape[-1] // self.scales.shape[-1]
        return mx.dequantize(*self.arrays, group_size=size, bits=BITS)

    def first(self, n: int) -> EightBits:
        """The first of the second-last axis, in memory of their own. Lazy."""
        return EightBits(*(mx.contiguous(each[..., :n, :]) for each in self.arrays))


def in_eight_bits(array: mx.array, size: int = 0) -> EightBits | None:
    """An array quantised, or None if it can't be: of other types, or heads of an odd size. Lazy.

    `size` is that of its groups, the largest if it is 0.
    """
    size = size or (group_size(array.shape[-1]) if array.ndim else 0)
    if not size or not array.size or not mx.issubdtype(array.dtype, mx.floating):
        return None
    return EightBits(*mx.quantize(array, group_size=size, bits=BITS))


def checked(numbers: mx.array, scales: mx.array, offsets: mx.array) -> EightBits:
    """Three arrays of a file.

    Raises:
        ValueError: They don't belong together.
    """
    found = EightBits(numbers, scales, offsets)
    n_groups = scales.shape[-1] if scales.ndim else 0
    if (
        numbers.dtype != mx.uint32
        or not mx.issubdtype(scales.dtype, mx.floating)
        or (scales.dtype, scales.shape) != (offsets.dtype, offsets.shape)
        or numbers.shape[:-1] != scales.shape[:-1]
        or not any(found.shape[-1] == size * n_groups for size in GROUP_SIZES)
    ):
        raise ValueError("numbers of 8 bits without their scales")
    return found
