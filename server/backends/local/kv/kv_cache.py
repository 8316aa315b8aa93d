"""KV states in RAM and on disk, and the reason why one was missing.

A state on disk is read back when a prompt needs it, before its request is queued. A disk thread
checks and reads the file; the engine thread only makes a state from memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    State,
    StateDamaged,
    States,
    StoredState,
)
from mlxdeck.server.backends.local.handover import Handover
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.miss_reason import (
    MissExplainer,
    Nearest,
    PartAt,
    explain,
)
from mlxdeck.server.backends.local.kv.prefix_cache import Lease, PrefixCache
from mlxdeck.server.backends.local.kv.state_index import BLOCK_TOKENS, Stored
from mlxdeck.server.backends.local.kv.token_bytes import TOKEN_BYTES, first, n_tokens, pack
from mlxdeck.server.cache.cache_stats import Counts
from mlxdeck.server.errors import EngineFailed
from mlxdeck.server.request_facts import Miss

log = logging.getLogger(__name__)

MIN_GAIN_TOKENS = 64
"""So many more tokens than RAM the disk has to know to be worth a read."""
MIN_TIMED_TOKENS = 64

OnEngine = Callable[[Callable[[], object]], Awaitable[None]]
"""Runs something on the engine thread, between two steps."""


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
        self, states: States, ram: PrefixCache, vault: DiskPrefixCache | None, on_engine: OnEngine
    ) -> None:
        self.ram = ram
        self.vault = vault
        self._states = states
        self._on_engine = on_engine
        self._seen = MissExplainer()
        self._reading = asyncio.Lock()
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

        Event loop. Of the two leases, the one that is not returned is released. On cancellation, a
        state that is being read still arrives in RAM, and `found` stays the caller's.
        """
        handover: Handover[Found] = Handover(lambda made: made.lease.release())

        def lease() -> None:
            handover.put(self._lease(wanted, found.nearest, tier="disk"))

        try:
            if await self._recall(wanted.tokens, lease):
                made = handover.take()
                found.lease.release()
                return made
        finally:
            # Also one that an engine makes which was thought to hang.
            handover.abandon()
        return found

    async def recall(self, tokens: Sequence[int]) -> None:
        """Bring a prompt's state from disk into RAM, if that is worth a read. Event loop."""
        await self._recall(tokens, lambda: None)

    async def _recall(self, tokens: Sequence[int], then: Callable[[], None]) -> bool:
        """Return whether a state was read; `then` runs on the engine thread right after that."""
        vault = self.vault
        if vault is None or not len(vault):
            return False
        if await self._candidate(vault, tokens) is None:
            return False
        async with self._reading:
            # Another request may have brought it meanwhile.
            candidate = await self._candidate(vault, tokens)
            if candidate is None:
                return False
            stored, n = candidate
            is_read = await self._restored(vault, stored, n, then)
            hit = is_read and self.ram.known(stored.tokens + bytes(TOKEN_BYTES)) >= n
            vault.tally.add(Counts(hit, not hit, n if hit else 0, len(tokens)))
            return is_read

    async def _restored(
        self, vault: DiskPrefixCache, stored: Stored, n: int, then: Callable[[], None]
    ) -> bool:
        """Read a file and make a state of it on the engine thread; return whether that worked."""
        try:
            read = await vault.read(stored)

            def restore() -> None:
                self._restore(vault, stored, read, n)
                then()

            await self._on_engine(restore)
        except StateDamaged:
            return False
        except EngineFailed as error:
            # The prompt is computed instead.
            log.warning("%s is not restored: %s", stored.file, error)
            vault.tally.evictions["failed"] += 1
            return False
        return True

    async def _candidate(
        self, vault: DiskPrefixCache, tokens: Sequence[int]
    ) -> tuple[Stored, int] | None:
        stored, n, n_known = await vault.nearest(tokens, self.ram.known)
        return (stored, n) if stored is not None and n >= n_known + MIN_GAIN_TOKENS else None

    def _restore(self, vault: DiskPrefixCache, stored: Stored, read: StoredState, n: int) -> None:
        """Engine thread."""
        try:
            state = vault.restore(stored, read, n)
        except StateDamaged as error:
            log.warning("%s", error)
            vault.discard(stored.file)
        else:
            self.ram.add(first(stored.tokens, n), state, min(stored.shared_tokens, n))

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
        surplus = n_tokens(tokens) - at_most_tokens if at_most_tokens else 0
        if surplus > 0:
            if not self._states.trimmable(state):
                return
            tokens, state = first(tokens, at_most_tokens), self._states.shrink(state, surplus)
        store = self.vault is not None and n_tokens(tokens) >= BLOCK_TOKENS
        self.ram.add(tokens, state, min(shared_tokens, n_tokens(tokens)), store=store)

    def spoil(self, tokens: Sequence[int]) -> None:
        """Drop the states that a prompt began with: nothing could be drawn. Engine thread."""
        if tokens:
            self.ram.spoil(pack(tokens))
            if self.vault is not None:
                self.vault.spoil(pack(tokens))

    def timed(self, prefill_s: float, computed_tokens: int) -> None:
        """Measure the cost of a computed token, which a cached token saves."""
        if computed_tokens >= MIN_TIMED_TOKENS:
            self.s_per_token = prefill_s / computed_tokens
