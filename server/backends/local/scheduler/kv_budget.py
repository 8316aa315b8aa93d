"""How much memory the KV caches of sequences will take. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EXPECTED_ANSWER_TOKENS = 2048
"""Answers are mostly shorter than what clients allow for; so many tokens are reckoned at most."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The tokens of a sequence."""

    prompt_tokens: int
    max_tokens: int
    """Of its answer."""
    held_tokens: int = 0
    """Those that are in its KV cache by now."""


@dataclass(frozen=True, slots=True)
class KVBudget:
    """The price of a token. A model of which nothing is known is free of charge."""

    token_bytes: float = 0.0
    most_bytes: int = 0
    """What one sequence could take if it were alone on the machine; 0 if that isn't known."""

    @property
    def most_tokens(self) -> int | None:
        """The longest prompt that can ever fit; None if every prompt may."""
        if not self.token_bytes or not self.most_bytes:
            return None
        return int(self.most_bytes / self.token_bytes)

    def lacking_bytes(self, new: Demand, running: Iterable[Demand], free_bytes: int) -> int:
        """How much memory must be freed before another is let in; 0 if it can be.

        Those that run are going to grow too.
        """
        wanted = self._bytes(new) + sum(map(self._bytes, running))
        return max(0, int(wanted) - free_bytes)

    def _bytes(self, demand: Demand) -> float:
        expected = demand.prompt_tokens + min(demand.max_tokens, EXPECTED_ANSWER_TOKENS)
        return max(0, expected - demand.held_tokens) * self.token_bytes
