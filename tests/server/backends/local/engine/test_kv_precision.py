"""Arrays in 8 bits: what they take, how near they stay, and what is left exact."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.mlx.kv_precision import (
    EightBits,
    group_size,
    in_eight_bits,
)

pytestmark = pytest.mark.model

TYPES = (mx.float32, mx.float16, mx.bfloat16)
SIZES = (32, 64, 96, 128, 160, 256, 512)


def made(shape: tuple[int, ...], dtype: Any, seed: int) -> mx.array:
    """Numbers as keys have them: some channels are far from zero."""
    key = mx.random.key(seed)
    far = 8 * mx.random.normal(shape[-1:], key=key)
    return (mx.random.normal(shape, key=key) + far).astype(dtype)


@given(st.sampled_from(TYPES), st.sampled_from(SIZES), st.integers(1, 9), st.integers(0, 1 << 30))
@settings(max_examples=60, deadline=None)
def test_each_number_stays_within_a_step_of_its_group(
    dtype: Any, size: int, n: int, seed: int
) -> None:
    """A step is a 255th of what the numbers of a group span, and what the type itself rounds."""
    array = made((1, 2, n, size), dtype, seed)
    found = in_eight_bits(array)
    assert found is not None
    read = found.read()
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    groups, again = (
        each.astype(mx.float32).reshape(-1, group_size(size)) for each in (array, read)
    )
    most = mx.max(mx.abs(groups), axis=-1)
    step = (mx.max(groups, axis=-1) - mx.min(groups, axis=-1)) / 255
    rounding = most * mx.finfo(dtype).eps
    worst = mx.max(mx.abs(groups - again), axis=-1)
    assert mx.all(worst <= step + 2 * rounding).item()


@pytest.mark.parametrize(
    ("size", "dtype", "share"),
    [
        (128, mx.bfloat16, (1 + 4 / 64) / 2),
        (64, mx.float16, (1 + 4 / 64) / 2),
        (96, mx.bfloat16, (1 + 4 / 32) / 2),
        (64, mx.float32, (1 + 8 / 64) / 4),
    ],
)
def test_bytes_are_those_of_the_numbers_and_two_of_each_group(
    size: int, dtype: Any, share: float
) -> None:
    """Groups of 64, and of 32 where a head is no multiple of 64."""
    array = made((1, 2, 8, size), dtype, 1)
    found = in_eight_bits(array)
    assert isinstance(found, EightBits)
    assert found.nbytes == share * array.nbytes
    assert found.numbers.size * 4 == array.size


@pytest.mark.parametrize(
    "array",
    [
        mx.zeros((1, 2, 8, 80)),
        mx.zeros((1, 2, 8, 8)),
        mx.zeros((1, 2, 0, 64)),
        mx.zeros((64,), mx.int32),
        mx.array(1.0),
    ],
    ids=["heads of 80", "heads of 8", "no tokens", "whole numbers", "one number"],
)
def test_what_has_no_groups_stays_as_it_is(array: mx.array) -> None:
    """It is for the caller to keep it exact."""
    assert in_eight_bits(array) is None


def test_a_group_of_equal_numbers_is_exact() -> None:
    """Of padding, and of channels that say nothing."""
    array = mx.concatenate([mx.zeros((1, 1, 4, 64)), mx.full((1, 1, 4, 64), -3.5)], axis=-1)
    found = in_eight_bits(array)
    assert found is not None
    assert mx.array_equal(found.read(), array).item()
