"""KV states in RAM: the longest known prefix of any prompt, within a hard limit of bytes.

What a state is only the engine knows; this module owns which are kept. Shared between the prompt
thread, which leases, and the engine thread, which keeps and evicts (states are freed there).
mlx-lm's LRUPromptCache does without leases and drops the stored prefixes of an entry that is
extended, so that a shared system prompt goes with the conversation that came last; here an entry
that has to go first shrinks to the part that other conversations begin with too.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mlxdeck.server.backends.local.engine.api import State, States
from mlxdeck.server.backends.local.kv.eviction_policy import Lru, Policy, Use
from mlxdeck.server.backends.local.kv.token_bytes import first, n_common, n_tokens, pack
from mlxdeck.server.cache.cache_stats import CacheStats, Counts
from mlxdeck.server.errors import EngineFailed

log = logging.getLogger(__name__)

# A prompt is compared with every entry: half a millisecond for this many long ones.
MAX_ENTRIES = 512
QUIET_S = 3.0
"""So long a conversation has to be quiet until its state is written to disk."""


@dataclass(eq=False, slots=True)
class Entry:
    """A state and what is known of it."""

    tokens: bytes
    state: State
    n_bytes: int
    trimmable: bool
    """Whether a prefix of it is as good as the whole."""
    shared_tokens: int
    """So many of its first tokens are a system prompt and tools."""
    rank: float = 0.0
    n_uses: int = 0
    n_leases: int = 0
    due_s: float = math.inf
    """When it is to be written to disk, of the monotonic clock; infinite if it isn't."""

    def usable(self, wanted: bytes) -> int:
        """How many leading tokens of `wanted` this state can stand for."""
        n = n_common(self.tokens, wanted)
        return n if self.trimmable or n == n_tokens(self.tokens) else 0


class Lease:
    """The longest known prefix of a prompt, protected from eviction until `release`."""

    def __init__(self, cache: PrefixCache, entry: Entry | None, n_cached: int, state: State | None):
        self.n_cached = n_cached
        """0 when nothing is known."""
        self.state = state
        """A private copy that holds exactly those tokens."""
        self.entry = entry
        """What it protects; the cache's to change."""
        self._cache = cache

    def release(self) -> None:
        """Give it back; any thread, any number of times."""
        self._cache.release(self)


class PrefixCache:
    """States by their tokens. Safe from any thread; `add` and `clear` on the engine's."""

    def __init__(self, states: States, max_bytes: int, policy: Policy | None = None) -> None:
        self.max_bytes = max_bytes
        self.tally = CacheStats()
        self.n_bytes = 0
        self.unwritten = 0
        """States that were given up, or not taken, before the disk had them."""
        self._states = states
        self._policy = policy or Lru()
        self._entries: list[Entry] = []
        self._now = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def known(self, tokens: bytes) -> int:
        """How many leading tokens of a prompt are known; one is always left to run."""
        with self._lock:
            return self._nearest(first(tokens, n_tokens(tokens) - 1))[1]

    def lease(self, tokens: Sequence[int]) -> Lease:
        """Take the longest cached prefix of a prompt, at most `len(tokens) - 1` long."""
        wanted = pack(tokens[:-1])
        with self._lock:
            # First: if it fails, there is no lease that anybody could give back.
            entry, n, state = self._copied(wanted)
            self.tally.add(Counts(n > 0, n == 0, n, len(tokens)))
            if entry is None:
                return Lease(self, None, 0, None)
            entry.n_leases += 1
            entry.n_uses += 1
            self._touch(entry)
        return Lease(self, entry, n, state)

    def _copied(self, wanted: bytes) -> tuple[Entry | None, int, State | None]:
        """The entry that knows most of a prompt, how much that is, and a copy of its state."""
        while True:
            entry, n = self._nearest(wanted)
            if entry is None:
                return None, 0, None
            try:
                return entry, n, self._states.copy(entry.state, n_tokens(entry.tokens) - n)
            except EngineFailed as error:
                self._lose(entry, error.message)

    def _lose(self, entry: Entry, why: str) -> None:
        """Drop an entry whose state can't be used."""
        log.warning("a cached state of %d tokens is lost: %s", n_tokens(entry.tokens), why)
        self._drop(entry)
        self.tally.evictions["failed"] += 1
        self.unwritten += entry.due_s < math.inf

    def _nearest(self, wanted: bytes) -> tuple[Entry | None, int]:
        best, best_n = None, 0
        for entry in self._entries:
            # Cheap to see that it can't be better; most of a conversation's prompts begin alike.
            if first(entry.tokens, best_n + 1) == first(wanted, best_n + 1):
                n = entry.usable(wanted)
                if n > best_n:
                    best, best_n = entry, n
        return best, best_n

    def release(self, lease: Lease) -> None:
        """End a lease, once: the engine's thread and the event loop may both want to."""
        with self._lock:
            entry, lease.entry = lease.entry, None
            if entry is not None:
                entry.n_leases -= 1

    @property
    def n_leases(self) -> int:
        """Leases that have not been given back."""
        with self._lock:
            return sum(entry.n_leases for entry in self._entries)

    def add(self, tokens: bytes, state: State, shared_tokens: int, *, store: bool = False) -> None:
        """Remember a state, giving up others for it.

        With `store` it is to be written to disk too, once its conversation has been quiet. What
        waits for the disk is here and nowhere else, within the same limit: what has to go goes.
        """
        with self._lock:
            try:
                entry = self._entry(tokens, state, shared_tokens)
            except EngineFailed as error:
                self.refuse(tokens, error.message)
                self.unwritten += store
                return
            if entry is None:
                return
            entry.due_s = time.monotonic() + QUIET_S if store else math.inf
            if entry.trimmable:
                self._drop_prefixes(entry)
            if entry.n_bytes <= self.max_bytes and self._make_room(entry.n_bytes):
                self._entries.append(entry)
                self.n_bytes += entry.n_bytes
                self._touch(entry)
            else:
                self.tally.evictions["no_room"] += 1
                self.unwritten += store

    def refuse(self, tokens: bytes, why: str) -> None:
        """Count a state that could not be kept. Engine thread."""
        log.warning("a state of %d tokens is not kept: %s", n_tokens(tokens), why)
        self.tally.evictions["failed"] += 1

    def _entry(self, tokens: bytes, state: State, shared_tokens: int) -> Entry | None:
        """A state as an entry that fits, or None if there is one already."""
        trimmable = self._states.trimmable(state)
        if self._covered(tokens, trimmable):
            return None
        entry = Entry(tokens, state, self._states.size_bytes(state), trimmable, shared_tokens)
        self._fit(entry)
        return entry

    def _covered(self, tokens: bytes, trimmable: bool) -> bool:
        """Whether an entry already stands for all of these tokens; it counts as used."""
        for entry in self._entries:
            same = entry.tokens == tokens
            if same or (trimmable and entry.trimmable and entry.tokens.startswith(tokens)):
                self._touch(entry)
                return True
        return False

    def _fit(self, entry: Entry) -> None:
        """Cut a state that is larger than the whole cache to what fits."""
        if entry.n_bytes > self.max_bytes and entry.trimmable:
            self._shrink(entry, n_tokens(entry.tokens) * self.max_bytes // entry.n_bytes)

    def _drop_prefixes(self, entry: Entry) -> None:
        for other in list(self._entries):
            if other.trimmable and not other.n_leases and entry.tokens.startswith(other.tokens):
                entry.n_uses += other.n_uses
                entry.shared_tokens = entry.shared_tokens or other.shared_tokens
                self._drop(other)

    def _make_room(self, n_bytes: int) -> bool:
        while self.n_bytes + n_bytes > self.max_bytes or len(self._entries) >= MAX_ENTRIES:
            idle = [entry for entry in self._entries if not entry.n_leases]
            if not idle:
                return False
            victim = min(idle, key=lambda entry: entry.rank)
            self._policy.evicted(victim.rank)
            self._give_up(victim)
        return True

    def _give_up(self, entry: Entry) -> None:
        """Free an entry's memory, but for a system prompt that nothing else holds."""
        shared = first(entry.tokens, entry.shared_tokens)
        held = any(
            e is not entry and e.trimmable and e.tokens.startswith(shared) for e in self._entries
        )
        if not (entry.trimmable and shared and len(shared) < len(entry.tokens)) or held:
            self._drop(entry)
            self.tally.evictions["room"] += 1
            self.unwritten += entry.due_s < math.inf
            return
        old_bytes = entry.n_bytes
        try:
            self._shrink(entry, entry.shared_tokens)
        except EngineFailed as error:
            self._lose(entry, error.message)
            return
        self.n_bytes += entry.n_bytes - old_bytes
        self._touch(entry)
        self.tally.evictions["shrunk"] += 1
        self.unwritten += entry.due_s < math.inf

    def _shrink(self, entry: Entry, n: int) -> None:
        state = self._states.shrink(entry.state, n_tokens(entry.tokens) - n)
        n_bytes = self._states.size_bytes(state)
        entry.state, entry.n_bytes, entry.tokens = state, n_bytes, first(entry.tokens, n)

    def spoil(self, tokens: bytes) -> None:
        """Drop all that begins with these tokens: nothing could be drawn from such a state."""
        with self._lock:
            for entry in [each for each in self._entries if each.tokens.startswith(tokens)]:
                self._lose(entry, "nothing could be drawn from it")

    def _drop(self, entry: Entry) -> None:
        self._entries.remove(entry)
        self.n_bytes -= entry.n_bytes

    def _touch(self, entry: Entry) -> None:
        self._now += 1
        use = Use(self._now, entry.n_uses, n_tokens(entry.tokens), entry.n_bytes)
        entry.rank = self._policy.rank(use)

    def n_due(self, *, everything: bool = False) -> int:
        """How many states are to be written by now, or at all."""
        until_s = math.inf if everything else time.monotonic()
        with self._lock:
            return sum(entry.due_s < math.inf and entry.due_s <= until_s for entry in self._entries)

    @property
    def waiting(self) -> tuple[int, int]:
        """Number and bytes of the states that wait to be written."""
        with self._lock:
            waiting = [entry.n_bytes for entry in self._entries if entry.due_s < math.inf]
        return len(waiting), sum(waiting)

    def lease_due(self, *, everything: bool = False) -> Lease | None:
        """Lease the state that has waited longest to be written; it doesn't wait any more."""
        until_s = math.inf if everything else time.monotonic()
        with self._lock:
            entry = min(self._entries, key=lambda each: each.due_s, default=None)
            if entry is None or entry.due_s == math.inf or entry.due_s > until_s:
                return None
            entry.due_s = math.inf
            entry.n_leases += 1
            return Lease(self, entry, n_tokens(entry.tokens), entry.state)

    def forget_due(self) -> None:
        """Write nothing of what waits to be written."""
        with self._lock:
            for entry in self._entries:
                entry.due_s = math.inf

    def clear(self) -> int:
        """Forget every state that is not in use; return how many."""
        with self._lock:
            idle = [entry for entry in self._entries if not entry.n_leases]
            for entry in idle:
                self._drop(entry)
        return len(idle)
