"""How much memory the KV caches of sequences will take. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mlxdeck.server.backends.local.engine.kv_cost import KVCost
from mlxdeck.server.backends.local.engine.row_groups import RowGroup, nearest_group

EXPECTED_ANSWER_TOKENS = 2048
"""Answers are mostly shorter than what clients allow for; so many tokens are reckoned at most."""
NEAR_TOKENS = 256
"""An answer that is longer than that is reckoned with so many tokens more."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The tokens of a sequence."""

    prompt_tokens: int
    max_tokens: int
    """Of its answer."""
    held_tokens: int = 0
    """Those that are in its KV cache by now."""
    written_tokens: int = 0
    """Of its answer by now."""
    joins: bool = False
    """Whether it has yet to join those that are written."""

    @property
    def expected_tokens(self) -> int:
        """How long it is going to be, as far as is reckoned with."""
        expected = max(EXPECTED_ANSWER_TOKENS, self.written_tokens + NEAR_TOKENS)
        return self.prompt_tokens + min(self.max_tokens, expected)

    def near(self) -> Demand:
        """The same, of the next steps only."""
        most = min(self.max_tokens, self.written_tokens + NEAR_TOKENS // 2)
        return replace(self, max_tokens=most)


@dataclass(frozen=True, slots=True)
class KVBudget:
    """The price of sequences. A model of which nothing is known is free of charge."""

    cost: KVCost = KVCost()
    most_bytes: int = 0
    """What one sequence could take if it were alone on the machine; 0 if that isn't known."""

    @property
    def is_known(self) -> bool:
        """Whether sequences have a price."""
        return bool(self.cost.layers)

    def most_tokens(self, enough: int) -> int:
        """The longest sequence that can ever fit, no further than `enough`."""
        if not self.most_bytes:
            return enough
        return self.cost.most_tokens(self.most_bytes, enough)

    def lacking_bytes(
        self,
        demands: Iterable[Demand],
        free_bytes: int,
        groups: Sequence[RowGroup] = (),
        spare_bytes: int = 0,
    ) -> int:
        """How much memory must be freed before all of these have what they are going to need.

        `groups` are the buffers of those that are written. Copies of these may take `spare_bytes`,
        which are not free.
        """
        asked = list(demands)
        needed = sum(map(self._bytes, asked)) + self._shared_bytes(asked, groups, spare_bytes)
        return max(0, needed - free_bytes)

    def _bytes(self, demand: Demand) -> int:
        """What it grows by. Of what it holds, only that is sure to be there which is filled."""
        held = self.cost.least_bytes_of(demand.held_tokens)
        return max(0, self.cost.bytes_of(demand.expected_tokens) - held)

    def _shared_bytes(
        self, demands: Sequence[Demand], groups: Sequence[RowGroup], spare_bytes: int
    ) -> int:
        """What is needed because they lie in buffers with others: padding, and copies of these."""
        found, padding_bytes = list(groups), 0
        for each in demands:
            if not each.joins:
                continue
            row = RowGroup(1, each.prompt_tokens + each.written_tokens)
            at = nearest_group(row, found)
            if at is None:
                found.append(row)
            else:
                padding_bytes += self._padding_bytes(found[at], row)
                found[at] = found[at].joined(row)
        copied = [self.cost.copy_bytes(each.n_rows, each.longest_tokens) for each in found]
        return padding_bytes + max(0, max(copied, default=0) - spare_bytes)

    def _padding_bytes(self, group: RowGroup, other: RowGroup) -> int:
        filled = self.cost.least_bytes_of
        whole = filled(group.joined(other).longest_tokens)
        return sum((whole - filled(each.longest_tokens)) * each.n_rows for each in (group, other))
