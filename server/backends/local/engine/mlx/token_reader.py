"""Reads what was sampled last, while the model computes the logits behind it. Engine thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx


class TokenReader:
    """The tokens of one sequence as they are sampled, for one of its logits processors.

    A stream computes in order. Whatever is asked of it once the next pass is queued comes after
    that pass. So the array that was queued before it is read, and nothing is asked.
    """

    def __init__(self) -> None:
        self._n_seen = -1
        self._sampled: mx.array | None = None
        self._place = 0

    def expect(self, sampled: mx.array, place: int) -> None:
        """Told before each step: the array, shape [rows], that the step begins with."""
        self._sampled, self._place = sampled, place

    def new(self, tokens: mx.array, logits: mx.array) -> list[int]:
        """The tokens since the last call, none the first time; those before are the prompt.

        `tokens` are all tokens up to now, shape [n]. The model starts to compute `logits`.
        """
        n_seen, self._n_seen = self._n_seen, tokens.shape[0]
        # Also at the first call: a pass over drafts may follow, which tells nothing before it.
        sampled, self._sampled = self._sampled, None
        if n_seen < 0 or n_seen == self._n_seen:
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
            return []
        if sampled is None or self._n_seen - n_seen > 1:
            mx.async_eval(tokens)  # type: ignore[no-untyped-call]
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
            return list(memoryview(tokens)[n_seen:])  # type: ignore[arg-type]
        mx.async_eval(logits)  # type: ignore[no-untyped-call]
        return [memoryview(sampled)[self._place]]  # type: ignore[arg-type]

    def back(self, other: TokenReader) -> None:
        """Go back to what another one has seen; what came behind comes anew."""
        self._n_seen, self._sampled = other._n_seen, None


def expect(sampled: mx.array, rows: Iterable[Sequence[Any]]) -> None:
    """Tell the logits processors of a batch's rows that read tokens what a step begins with."""
    readers = [
        (reader, place)
        for place, processors in enumerate(rows)
        for each in processors or ()
        if isinstance(reader := getattr(each, "reader", None), TokenReader)
    ]
    if readers:
        mx.async_eval(sampled)  # type: ignore[no-untyped-call]
    for reader, place in readers:
        reader.expect(sampled, place)
