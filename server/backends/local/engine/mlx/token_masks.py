"""Masks over the next token, made by the processor and applied by the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenMask:
    """Which tokens may come next."""

    allowed: NDArray[np.bool_]
    """One entry a token, shape [vocab of the tokenizer]."""
    others: bool = False
    """Whether tokens beyond may come, which a padded vocabulary has."""

    @property
    def n_allowed(self) -> int:
        """How many of the tokenizer's tokens may come."""
        return int(np.count_nonzero(self.allowed))

    def leaves_none(self, n_logits: int) -> bool:
        """Whether no token of a model is allowed: it may have fewer than its tokenizer."""
        beyond = self.others and n_logits > self.allowed.size
        return not beyond and not self.allowed[:n_logits].any()


def only(tokens: Sequence[int], n_tokens: int) -> TokenMask:
    """A mask that allows these tokens alone."""
    allowed = np.zeros(n_tokens, dtype=bool)
    allowed[[token for token in tokens if token < n_tokens]] = True
    return TokenMask(allowed)


def unpacked(bits: bytes, n_tokens: int) -> TokenMask:
    """The mask of a bit set, as llguidance makes it."""
    found = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")
    return TokenMask(found[:n_tokens].view(bool))


def masked(logits: mx.array, masks: Sequence[TokenMask | None]) -> mx.array:
    """Logits, shape [n, vocab], of which each row keeps what its mask allows; None is all."""
    if all(each is None for each in masks):
        return logits
    allowed = np.ones(logits.shape, dtype=bool)
    for row, mask in zip(allowed, masks, strict=True):
        if mask is not None:
            n_known = min(row.size, mask.allowed.size)
            row[:n_known] = mask.allowed[:n_known]
            row[n_known:] = mask.others
    return mx.where(mx.array(allowed), logits, mx.array(-mx.inf, logits.dtype))
