"""Token sequences as bytes, four a token: compact, hashable, and compared at memcmp's speed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

TOKEN_BYTES = 4


def pack(tokens: Sequence[int]) -> bytes:
    """Tokens as bytes, in this machine's byte order; `unpack` is the inverse."""
    return array("I", tokens).tobytes()


def unpack(packed: bytes) -> list[int]:
    """The tokens that `pack` was given."""
    return array("I", packed).tolist()


def n_tokens(packed: bytes) -> int:
    """How many tokens it holds."""
    return len(packed) // TOKEN_BYTES


def first(packed: bytes, n: int) -> bytes:
    """Its first `n` tokens."""
    return packed[: n * TOKEN_BYTES]


def without_last(packed: bytes) -> bytes:
    """A prompt without its last token, which is always left to run."""
    return packed[:-TOKEN_BYTES]


def n_common(one: bytes, other: bytes) -> int:
    """How many leading tokens two sequences have in common."""
    low, high = 0, min(len(one), len(other)) // TOKEN_BYTES
    if first(one, high) == first(other, high):
        return high
    # The first `low` are known to be equal, those from `high` on are not looked at any more.
    while low < high:
        middle = (low + high + 1) // 2
        span = slice(low * TOKEN_BYTES, middle * TOKEN_BYTES)
        if one[span] == other[span]:
            low = middle
        else:
            high = middle - 1
    return low
