"""KV states wherever they are: in RAM, on disk; and why one was not there.

What is on disk is read back when a prompt asks for it, before it is queued: the file is checked on
the reading thread, its arrays are made on the engine's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from mlxdeck.server.backends.local.engine.api import KVState, States
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache, Stored
from mlxdeck.server.backends.local.kv.miss_reason import Miss, MissExplainer, PartAt
from mlxdeck.server.backends.local.kv.prefix_cache import Lease, PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import first, n_tokens, pack
from mlxdeck.server.cache.cache_stats import Counts

log = logging.getLogger(__name__)

MIN_GAIN_TOKENS = 64
"""So many more tokens than RAM the disk has to know to be worth a read."""
MIN_TIMED_TOKENS = 64

OnEngine = Callable[[Callable[[], object]], Awaitable[None]]
"""Runs something on the engine thread, between two steps."""


@dataclass(frozen=True, slots=True)
class Found:
    """What RAM, or the disk, knows of a prompt."""

    lease: Lease
    miss: Miss
    tier: str
    """Where the tokens came from: `ram`, `disk`, or empty."""


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
        """Prefill time of a token, as of the last prompt that was long enough to tell."""

    def on_disk(self, tokens: Sequence[int]) -> bool:
        """Whether the disk knows so much more of a prompt that it is worth a read. Any thread."""
        return self._candidate(pack(tokens)) is not None

    def _candidate(self, packed: bytes) -> tuple[Stored, int] | None:
        if self.vault is None or not len(self.vault):
            return None
        stored, n = self.vault.nearest(packed)
        worth = stored is not None and n >= self.ram.known(packed) + MIN_GAIN_TOKENS
        return (stored, n) if stored is not None and worth else None

    async def recall(self, tokens: Sequence[int]) -> bool:
        """Bring a prompt's state from disk into RAM; tell whether that worked. Event loop."""
        packed = pack(tokens)
        async with self._reading:
            # Another request may have brought it meanwhile.
            candidate = self._candidate(packed)
            if self.vault is None or candidate is None:
                return False
            stored, n = candidate
            if not await self.vault.intact(stored):
                return False
            vault, before = self.vault, len(self.ram)

            def restore() -> None:
                try:
                    state = vault.load(stored, n)
                except ValueError as error:
                    log.warning("%s", error)
                    vault.discard(stored)
                else:
                    shared = min(stored.shared_tokens, n)
                    self.ram.add(first(stored.tokens, n), state, shared)

            await self._on_engine(restore)
            hit = self.ram.known(packed) >= n
            log.debug("read %s: %s (%d states before)", stored.file, hit, before)
            vault.tally.add(Counts(hit, not hit, n if hit else 0, n_tokens(packed)))
            return hit

    async def lease(
        self,
        pool: Executor,
        tokens: Sequence[int],
        part_at: PartAt,
        tail_start: int,
        *,
        read: bool,
    ) -> Found:
        """Lease what is known of a prompt on the pool's one thread, and say why it isn't more.

        The caller owns the lease once it is returned. Cancelled before that, it is given back,
        also when the thread makes it only later.
        """
        making = pool.submit(self._lease, tokens, part_at, tail_start, read)
        try:
            return await asyncio.wrap_future(making)
        except asyncio.CancelledError:
            making.cancel()
            making.add_done_callback(_give_back)
            raise

    def _lease(self, tokens: Sequence[int], part_at: PartAt, tail_start: int, read: bool) -> Found:
        packed = pack(tokens)
        lease = self.ram.lease(tokens)
        if self.ram.max_bytes:
            miss = self._seen.explain(packed, part_at, lease.n_cached)
        else:
            miss = Miss("disabled")
        self._seen.add(packed, part_at, tail_start)
        return Found(lease, miss, ("disk" if read else "ram") if lease.n_cached else "")

    def keep(
        self, kept: KVState, shared_tokens: int, lease: Lease, *, at_most_tokens: int = 0
    ) -> None:
        """Remember what a sequence has computed, and end its lease. Engine thread."""
        tokens, state = pack(kept.tokens), kept.state
        surplus = n_tokens(tokens) - at_most_tokens if at_most_tokens else 0
        lease.release()
        if surplus > 0:
            if not self._states.trimmable(state):
                return
            tokens, state = first(tokens, at_most_tokens), self._states.shrink(state, surplus)
        shared = min(shared_tokens, n_tokens(tokens))
        self.ram.add(tokens, state, shared)
        if self.vault is not None:
            self.vault.offer(tokens, state, shared)

    def timed(self, prefill_s: float, computed_tokens: int) -> None:
        """Learn what a token costs to compute, which is what a cached one saves."""
        if computed_tokens >= MIN_TIMED_TOKENS:
            self.s_per_token = prefill_s / computed_tokens


def _give_back(making: Future[Found]) -> None:
    """Release a lease that nobody waits for any more."""
    if not making.cancelled() and making.exception() is None:
        making.result().lease.release()
