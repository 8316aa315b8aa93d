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
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.miss_reason import Miss, MissExplainer, PartAt
from mlxdeck.server.backends.local.kv.prefix_cache import Lease, PrefixCache
from mlxdeck.server.backends.local.kv.state_index import BLOCK_TOKENS, Stored
from mlxdeck.server.backends.local.kv.token_bytes import TOKEN_BYTES, first, n_tokens, pack
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

    async def recall(self, tokens: Sequence[int]) -> bool:
        """Bring a prompt's state from disk into RAM, if that is worth a read; tell whether it was.

        Event loop. Cancelled, what is being read still comes into RAM.
        """
        vault = self.vault
        if vault is None or not len(vault):
            return False
        if await self._candidate(vault, tokens) is None:
            return False
        async with self._reading:
            # Another request may have brought it meanwhile.
            candidate = await self._candidate(vault, tokens)
            if candidate is None or not await vault.intact(candidate[0]):
                return False
            stored, n = candidate
            await self._on_engine(lambda: self._restore(vault, stored, n))
            hit = self.ram.known(stored.tokens + bytes(TOKEN_BYTES)) >= n
            vault.tally.add(Counts(hit, not hit, n if hit else 0, len(tokens)))
            return hit

    async def _candidate(
        self, vault: DiskPrefixCache, tokens: Sequence[int]
    ) -> tuple[Stored, int] | None:
        stored, n, n_known = await vault.nearest(tokens, self.ram.known)
        return (stored, n) if stored is not None and n >= n_known + MIN_GAIN_TOKENS else None

    def _restore(self, vault: DiskPrefixCache, stored: Stored, n: int) -> None:
        """Engine thread."""
        try:
            state = vault.load(stored, n)
        except (OSError, ValueError) as error:
            log.warning("%s", error)
            vault.discard(stored.file)
        else:
            self.ram.add(first(stored.tokens, n), state, min(stored.shared_tokens, n))

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
        store = self.vault is not None and n_tokens(tokens) >= BLOCK_TOKENS
        self.ram.add(tokens, state, min(shared_tokens, n_tokens(tokens)), store=store)

    def timed(self, prefill_s: float, computed_tokens: int) -> None:
        """Learn what a token costs to compute, which is what a cached one saves."""
        if computed_tokens >= MIN_TIMED_TOKENS:
            self.s_per_token = prefill_s / computed_tokens


def _give_back(making: Future[Found]) -> None:
    """Release a lease that nobody waits for any more."""
    if not making.cancelled() and making.exception() is None:
        making.result().lease.release()
