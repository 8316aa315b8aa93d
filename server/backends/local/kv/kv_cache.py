"""KV states in RAM and on disk, and the reason why one was missing.

What a prompt needs of the disk is read back before its request is queued.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mlxdeck.server.backends.local.engine.api import KVState, State, States
from mlxdeck.server.backends.local.handover import Handover
from mlxdeck.server.backends.local.kv.disk_prefix_cache import (
    MIN_STORED_TOKENS,
    DiskPrefixCache,
)
from mlxdeck.server.backends.local.kv.leases import Lease
from mlxdeck.server.backends.local.kv.miss_reason import (
    MissExplainer,
    Nearest,
    PartAt,
    explain,
)
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.restoring import OnEngine, Restoring
from mlxdeck.server.backends.local.kv.token_bytes import first, n_tokens, pack
from mlxdeck.server.errors import EngineFailed
from mlxdeck.server.request_facts import Miss

log = logging.getLogger(__name__)

MIN_TIMED_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt that is looked for."""

    tokens: Sequence[int]
    part_at: PartAt
    tail_start: int
    """End of the last message, where the template's start of the answer begins."""


@dataclass(frozen=True, slots=True)
class Found:
    """What RAM, or the disk, knows of a prompt."""

    lease: Lease
    miss: Miss
    tier: str
    """Where the tokens came from: `ram`, `disk`, or empty."""
    nearest: Nearest
    """The earlier prompt that the miss is explained by."""


class KVCache:
    """The states of all tiers."""

    def __init__(
        self, states: States, ram: PrefixCache, on_disk: DiskPrefixCache | None, on_engine: OnEngine
    ) -> None:
        self.ram = ram
        self.on_disk = on_disk
        self._states = states
        self._restoring = (
            Restoring(states, ram, on_disk, on_engine) if on_disk is not None else None
        )
        self._seen = MissExplainer()
        self.s_per_token: float | None = None
        """Prefill time of a token, from the last prompt that was long enough to measure it."""

    def find(self, wanted: Wanted) -> Found:
        """Lease what RAM knows of a prompt, and say why it isn't more. Any one thread."""
        packed = pack(wanted.tokens)
        nearest = self._seen.compare(packed)
        self._seen.add(packed, wanted.part_at, wanted.tail_start)
        return self._lease(wanted, nearest, tier="ram")

    async def restore(self, wanted: Wanted, found: Found) -> Found:
        """Restore a prompt's state from disk into RAM, if it saves more than the read costs; lease
        it.

        Event loop. Of the two leases, the one that is not returned is released. On cancellation,
        `found` stays the caller's. Once the disk is read, its blocks may be evicted; its state
        stays as it is.
        """
        if self._restoring is None:
            return found
        handover: Handover[Found] = Handover(lambda made: made.lease.release())

        def lease() -> None:
            handover.put(self._lease(wanted, found.nearest, tier="disk"))

        try:
            if await self._restoring.restore(wanted.tokens, lease, found.lease):
                made = handover.take()
                found.lease.release()
                return made
        finally:
            # Also one that an engine makes which was thought to hang.
            handover.abandon()
        return found

    async def recall(self, tokens: Sequence[int]) -> None:
        """Bring a prompt's state from disk into RAM, if that is worth a read. Event loop."""
        if self._restoring is not None:
            await self._restoring.restore(tokens, lambda: None)

    def again(self, tokens: Sequence[int]) -> tuple[int, State]:
        """How much is known of a sequence that had to wait, and a copy of its state. Engine thread.

        Once it runs, what it shares with the cache is its own.
        """
        lease = self.ram.lease(tokens)
        try:
            return lease.n_cached, lease.state
        finally:
            lease.release()

    def _lease(self, wanted: Wanted, nearest: Nearest, *, tier: str) -> Found:
        lease = self.ram.lease(wanted.tokens)
        if self.ram.max_bytes:
            miss = explain(pack(wanted.tokens), wanted.part_at, lease.n_cached, nearest)
        else:
            miss = Miss("disabled")
        return Found(lease, miss, tier if lease.n_cached else "", nearest)

    def keep(
        self, kept: KVState, shared_tokens: int, lease: Lease, *, at_most_tokens: int = 0
    ) -> None:
        """Store a sequence's computed state, and end its lease. Engine thread.

        A state that can't be kept is counted, and has no other effect.
        """
        lease.release()
        tokens = pack(kept.tokens)
        try:
            self._keep(tokens, kept.state, shared_tokens, at_most_tokens)
        except EngineFailed as error:
            self.ram.refuse(tokens, error.message)

    def _keep(self, tokens: bytes, state: State, shared_tokens: int, at_most_tokens: int) -> None:
        if at_most_tokens and n_tokens(tokens) > at_most_tokens:
            if not self._states.is_cuttable(state):
                return
            tokens = first(tokens, at_most_tokens)
        store = self.on_disk is not None and n_tokens(tokens) >= MIN_STORED_TOKENS
        self.ram.add(tokens, state, min(shared_tokens, n_tokens(tokens)), store=store)

    def spoil(self, tokens: Sequence[int]) -> None:
        """Drop the states that a prompt began with: nothing could be drawn. Engine thread."""
        if tokens:
            self.ram.spoil(pack(tokens))
            if self.on_disk is not None:
                self.on_disk.spoil(pack(tokens))

    def timed(self, prefill_s: float, computed_tokens: int) -> None:
        """Measure the cost of a computed token, which a cached token saves."""
        if computed_tokens >= MIN_TIMED_TOKENS:
            self.s_per_token = prefill_s / computed_tokens
