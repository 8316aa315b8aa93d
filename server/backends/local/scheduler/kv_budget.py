"""How much memory the KV caches of sequences will take. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlxdeck.server.backends.local.engine.kv_cost import KVCost

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

    def lacking_bytes(self, demands: Iterable[Demand], free_bytes: int) -> int:
        """How much memory must be freed before all of these have what they are going to need."""
        return max(0, sum(map(self._bytes, demands)) - free_bytes)

    def _bytes(self, demand: Demand) -> int:
        cost = self.cost
        return max(0, cost.bytes_of(demand.expected_tokens) - cost.bytes_of(demand.held_tokens))
