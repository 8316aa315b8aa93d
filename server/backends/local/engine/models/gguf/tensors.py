"""Tensors of a GGUF file in MLX's form: quantised ones exactly, the others in half precision.

MLX can hold tensors of the form (small whole number) x scale + offset over 32 weights exactly. The
`gguf` package, which has the tables, computes types with other groups or with tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

GROUP_SIZE = 32
"""Weights that share a scale, in every type that stays quantised."""

Array = NDArray[Any]
Affine = tuple[Array, Array, Array]
"""Whole numbers, by rows and groups; scales; offsets."""


def _halves(packed: Array) -> Array:
    """Two numbers a byte: first all the low halves, then all the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _half(blocks: Array, at: int) -> Array:
    return (
        np.ascontiguousarray(blocks[..., at : at + 2]).view(np.float16).astype(np.float32)[..., 0]
    )


def _fifth(blocks: Array, at: int) -> Array:
    """The fifth bits of 32 numbers."""
    bits = np.unpackbits(np.ascontiguousarray(blocks[..., at : at + 4]), axis=-1, bitorder="little")
    return bits << 4


def _q4_0(blocks: Array) -> Affine:
    scale = _half(blocks, 0)
    return _halves(blocks[..., 2:]), scale, -8 * scale


def _q4_1(blocks: Array) -> Affine:
    return _halves(blocks[..., 4:]), _half(blocks, 0), _half(blocks, 2)


def _q5_0(blocks: Array) -> Affine:
    scale = _half(blocks, 0)
    return _halves(blocks[..., 6:]) | _fifth(blocks, 2), scale, -16 * scale


def _q5_1(blocks: Array) -> Affine:
    numbers = _halves(blocks[..., 8:]) | _fifth(blocks, 4)
    return numbers, _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: Array) -> Affine:
    scale = _half(blocks, 0)
    return blocks[..., 2:] ^ 128, scale, -128 * scale


def _scales_of_k(blocks: Array) -> tuple[Array, Array]:
    """Eight scales and eight offsets of a block of 256; 6 bits each, packed into 12 bytes."""
    low, middle, high = (blocks[..., at : at + 4] for at in (4, 8, 12))
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 2) & 48)], axis=-1)
    offsets = np.concatenate([middle & 63, (high >> 4) | ((middle >> 2) & 48)], axis=-1)
    return (
        _half(blocks, 0)[..., None] * scales,
        -_half(blocks, 2)[..., None] * offsets,
    )


def _pairs_of_groups(packed: Array) -> Array:
    """Of each 32 bytes, the low halves are one group and the high halves the next."""
    groups = packed.reshape(*packed.shape[:-1], 4, 32)
    both = np.stack([groups & 15, groups >> 4], axis=-2)
    return both.reshape(*packed.shape[:-1], 8, 32)


def _q4_k(blocks: Array) -> Affine:
    return _pairs_of_groups(blocks[..., 16:]), *_scales_of_k(blocks)


def _q5_k(blocks: Array) -> Affine:
    # Bit g of the k-th byte is the fifth bit of number k of group g.
    high = blocks[..., None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return _pairs_of_groups(blocks[..., 48:]) | high << 4, *_scales_of_k(blocks)


KEPT: dict[str, tuple[int, int, Callable[[Array], Affine]]] = {
    "Q4_0": (4, 18, _q4_0),
    "Q4_1": (4, 20, _q4_1),
    "Q5_0": (5, 22, _q5_0),
    "Q5_1": (5, 24, _q5_1),
    "Q8_0": (8, 34, _q8_0),
    "Q4_K": (4, 144, _q4_k),
    "Q5_K": (5, 176, _q5_k),
}
"""Types that stay quantised: bits, bytes of a block, and how it is read."""
MXFP4 = "MXFP4"
WORKED_OUT = (
    *("BF16", "Q2_K", "Q3_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"),
    *("IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0"),
)
TENSOR_TYPES = ("F32", "F16", *KEPT, MXFP4, *WORKED_OUT)


def converted(kind: str, data: Array) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """A tensor's parts by name, and its quantisation in the terms of mlx-lm's config.

    The parts are `weight` alone, or with `scales` and `biases`; the quantisation is empty if there
    is none. `data` holds numbers for F32 and F16, else bytes, by rows.
    """
    if kind in ("F32", "F16"):
        return {"weight": mx.array(np.ascontiguousarray(data))}, {}
    if kind == MXFP4:
        return _mxfp4(data)
    if kind not in KEPT:
        return {"weight": mx.array(_worked_out(kind, data))}, {}
    bits, block_bytes, read = KEPT[kind]
    numbers, scales, offsets = read(data.reshape(*data.shape[:-1], -1, block_bytes))
    parts = {
        "weight": mx.array(packed(numbers.reshape(*data.shape[:-1], -1), bits)),
        "scales": mx.array(scales.reshape(*data.shape[:-1], -1).astype(np.float16)),
        "biases": mx.array(offsets.reshape(*data.shape[:-1], -1).astype(np.float16)),
    }
    return parts, {"group_size": GROUP_SIZE, "bits": bits}


def packed(numbers: Array, bits: int) -> NDArray[np.uint32]:
    """Numbers of so many bits, one behind the other, lowest bit first, in words of 32."""
    numbers = np.ascontiguousarray(numbers, np.uint8)
    if bits == 4:
        joined = numbers[..., ::2] | numbers[..., 1::2] << 4
    elif bits == 8:
        joined = numbers
    else:
        rows = numbers.reshape(-1, numbers.shape[-1])
        # A few rows at a time: each bit takes a byte here.
        step = max(1, (1 << 22) // rows.shape[-1])
        joined = np.concatenate(
            [_stream(rows[at : at + step], bits) for at in range(0, len(rows), step)]
        ).reshape(*numbers.shape[:-1], -1)
    return np.ascontiguousarray(joined).view(np.uint32)


def _stream(rows: Array, bits: int) -> Array:
    each = np.unpackbits(rows[..., None], axis=-1, bitorder="little", count=bits)
    return np.packbits(each.reshape(len(rows), -1), axis=-1, bitorder="little")


def _mxfp4(data: Array) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """The same in both: a shared exponent, and the codes of the standard."""
    blocks = data.reshape(*data.shape[:-1], -1, 17)
    codes = _halves(blocks[..., 1:]).reshape(*data.shape[:-1], -1)
    parts = {
        "weight": mx.array(packed(codes, 4)),
        "scales": mx.array(np.ascontiguousarray(blocks[..., 0])),
    }
    return parts, {"group_size": GROUP_SIZE, "bits": 4, "mode": "mxfp4"}


def _worked_out(kind: str, data: Array) -> NDArray[np.float16]:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(over="ignore"):
        numbers: Array = dequantize(data, GGMLQuantizationType[kind])
        return numbers.astype(np.float16)
