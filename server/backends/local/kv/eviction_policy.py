"""Which part of the cached states is given up first: pure arithmetic, apart from any cache.

A policy ranks a block or checkpoint whenever it is used; of those that may go, the lowest rank goes
first. `make bench` compares them on recorded traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Use:
    """Facts about a part when it is stored or used."""

    now: int
    """A count of all uses: the clock of the cache."""
    n_uses: int
    start_tokens: int
    """Tokens before those that it saves."""
    n_tokens: int
    """Tokens that needn't be computed because of it."""
    n_bytes: int


class Policy(Protocol):
    """Ranks parts."""

    def rank(self, use: Use) -> float:
        """The part's rank from now on."""

    def evicted(self, rank: float) -> None:
        """A part of that rank has been given up."""


class Lru:
    """The one that was used longest ago goes first."""

    def rank(self, use: Use) -> float:
        """The time of the use."""
        return use.now

    def evicted(self, rank: float) -> None:
        """Nothing to learn from it."""


class Adaptive:
    """Evicts the part that saves the least prefill a byte: Greedy-Dual-Size with frequency.

    Every eviction raises the floor that later ranks start from, so that old savings lose weight.
    (Cherkasova: Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy,
    1998.) The saving of a token is partly quadratic, as attention is. A token at the end of a long
    prompt took longer to compute than one at the beginning.
    """

    # Length of prompt at which attention costs as much as everything else in a layer together.
    _EVEN_TOKENS = 16_384

    def __init__(self) -> None:
        self._floor = 0.0

    def rank(self, use: Use) -> float:
        """Floor plus what its uses save a byte."""
        start, end = use.start_tokens, use.start_tokens + use.n_tokens
        saved = self._cost(end) - self._cost(start)
        return self._floor + (1 + use.n_uses) * saved / max(1, use.n_bytes)

    def _cost(self, n_tokens: int) -> float:
        """Of computing so many tokens, in the price of a first one."""
        return n_tokens * (1 + n_tokens / (2 * self._EVEN_TOKENS))

    def evicted(self, rank: float) -> None:
        """Raise the floor."""
        self._floor = max(self._floor, rank)


POLICIES: dict[str, type[Policy]] = {"lru": Lru, "adaptive": Adaptive}
