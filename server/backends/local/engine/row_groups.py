"""Which sequences lie in one buffer, padded to the longest. Values in, values out.

A buffer is a pass of its own over the weights in each step, and padding takes memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PADDING_TOKENS = 8192
"""Sequences lie together if that costs no more than so many tokens of padding. About there, a
further pass over the weights is as cheap, and needs no memory."""
MAX_GROUPS = 4
"""With so many passes a step, padding is preferred to a further one, as far as there is memory."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Sequences in one buffer."""

    n_rows: int
    longest_tokens: int

    def joined(self, other: RowGroup) -> RowGroup:
        """Both in one."""
        longest = max(self.longest_tokens, other.longest_tokens)
        return RowGroup(self.n_rows + other.n_rows, longest)

    def padding_tokens(self, other: RowGroup) -> int:
        """How many tokens of padding both need together, beyond what they have."""
        longest = max(self.longest_tokens, other.longest_tokens)
        return sum((longest - each.longest_tokens) * each.n_rows for each in (self, other))


def nearest_group(rows: RowGroup, groups: Sequence[RowGroup]) -> int | None:
    """The group that these rows join; None if they stay on their own."""
    costs = [(each.padding_tokens(rows), n) for n, each in enumerate(groups)]
    cost, nearest = min(costs, default=(0, -1))
    if nearest < 0 or (cost > PADDING_TOKENS and len(groups) < MAX_GROUPS):
        return None
    return nearest


def passes(lengths: Sequence[int]) -> list[list[int]]:
    """Which prompts a pass reads together, by their place, for caches of such lengths."""
    found: list[list[int]] = []
    group = RowGroup(0, 0)
    for n in sorted(range(len(lengths)), key=lambda n: lengths[n]):
        row = RowGroup(1, lengths[n])
        if not found or group.padding_tokens(row) > PADDING_TOKENS:
            found.append([])
            group = RowGroup(0, 0)
        found[-1].append(n)
        group = group.joined(row)
    return [sorted(each) for each in found]
