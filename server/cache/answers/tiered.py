"""Exact answers in all tiers, the nearest first: RAM, this machine's disk, other machines.

The event loop looks into RAM, which costs nothing. The slower tiers are only asked before a
generation, and are filled in the background.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from mlxdeck.server.cache.answers.loss_reasons import LossReasons
from mlxdeck.server.cache.answers.memory import Answer, MemoryAnswers
from mlxdeck.server.cache.cache_keys import request_of
from mlxdeck.server.cache.cache_stats import CacheStats

log = logging.getLogger(__name__)


class Tier(Protocol):
    """A store of answers that may take a while. None of its methods ever raises."""

    name: str
    stats: CacheStats
    gone: LossReasons
    n_bytes: int

    def __len__(self) -> int: ...

    async def get(self, key: str) -> Answer | None:
        """Look an answer up, and count how that went."""

    def used(self, key: str) -> None:
        """An answer was repeated from a nearer tier."""

    def put(self, key: str, answer: Answer) -> None:
        """Store it in the background."""

    def tick(self) -> None:
        """Do regular work, in the background."""

    def expire(self) -> None:
        """Drop answers that are too old."""

    async def clear(self) -> int:
        """Drop every answer; return how many there were."""


class TieredAnswers:
    """Answers by their key. For the event loop."""

    def __init__(self, ram: MemoryAnswers, slower: Sequence[Tier] = ()) -> None:
        self.ram = ram
        self.slower = tuple(slower)
        self._tiers: tuple[MemoryAnswers | Tier, ...] = (ram, *self.slower)

    @property
    def enabled(self) -> bool:
        """Whether any tier can hold anything."""
        return self.ram.enabled

    def known(self, key: str) -> Answer | None:
        """Look into RAM; a hit there counts as a use in the slower tiers too."""
        answer = self.ram.get(key)
        if answer is not None:
            for tier in self.slower:
                tier.used(key)
        return answer

    async def find(self, key: str) -> tuple[Answer, str] | None:
        """Ask the slower tiers; an answer moves into all nearer ones. Returns its tier's name."""
        for place, tier in enumerate(self.slower):
            if answer := await tier.get(key):
                self.ram.put(key, answer)
                for nearer in self.slower[:place]:
                    nearer.put(key, answer)
                return answer, tier.name
        return None

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer in every tier."""
        self.ram.put(key, answer)
        if self.enabled:
            for tier in self.slower:
                tier.put(key, answer)

    def refuse(self, key: str) -> None:
        """Note that the answer was not one to repeat."""
        self.ram.gone.add(key, "not_kept")

    def tick(self) -> None:
        """Do regular work."""
        for tier in self.slower:
            tier.tick()

    def expire(self) -> None:
        """Drop answers that are too old in any tier."""
        for tier in self._tiers:
            tier.expire()

    def miss_reason(self, key: str) -> str:
        """Why nothing was found, as `LossReasons` says, or `cold`."""
        reasons = {tier.gone.why(key) for tier in self._tiers}
        for reason in ("expired", "not_kept", "evicted"):
            if reason in reasons:
                return reason
        known = "model_changed" in reasons or self.ram.knows_request(request_of(key))
        return "model_changed" if known else "cold"
