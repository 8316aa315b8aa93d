"""KV states in RAM: the longest known prefix of any prompt, within a hard limit of bytes.

Only the engine knows the contents of a state; this module decides which states are kept. The prompt
thread takes leases; the engine thread keeps and evicts, so states are freed there.

mlx-lm's LRUPromptCache has no leases, and drops the stored prefixes of an entry that is extended. A
shared system prompt is then evicted with the last conversation. Here an evicted entry first shrinks
to the part that other conversations share.
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
    """A state and the facts about it."""

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
        """Number of leading tokens of `wanted` for which this state is valid."""
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
        """The entry that it protects; only the cache changes it."""
        self._cache = cache

    def release(self) -> None:
        """Give it back; any thread, any number of times."""
        self._cache.release(self)


class PrefixCache:
    """States by their tokens. Safe from any thread; `add` and `clear` on the engine's.

    No method of the engine is called under the lock: if the engine hangs, other threads don't.
    """

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
        while True:
            with self._lock:
                entry, n = self._nearest(wanted)
                if entry is None:
                    self.tally.add(Counts(misses=1, prompt_tokens=len(tokens)))
                    return Lease(self, None, 0, None)
                # From here on it stays as it is.
                entry.n_leases += 1
            lease = Lease(self, entry, n, None)
            try:
                lease.state = self._states.copy(entry.state, n_tokens(entry.tokens) - n)
            except EngineFailed as error:
                lease.release()
                self._lose(entry, error.message)
                continue
            except BaseException:
                lease.release()
                raise
            with self._lock:
                self.tally.add(Counts(hits=1, hit_tokens=n, prompt_tokens=len(tokens)))
                entry.n_uses += 1
                self._touch(entry)
            return lease

    def _lose(self, entry: Entry, why: str) -> None:
        """Drop an entry whose state can't be used."""
        with self._lock:
            if entry not in self._entries:
                return
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
        """Store a state and evict others for it.

        With `store` it is also written to disk, once its conversation has been quiet. States that
        wait for the disk are only here, within the same limit, and may be evicted.
        """
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
        while entry.n_bytes <= self.max_bytes:
            with self._lock:
                if self._has_room(entry.n_bytes):
                    self._entries.append(entry)
                    self.n_bytes += entry.n_bytes
                    self._touch(entry)
                    return
            if not self._give_up_one():
                break
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
        if entry.n_bytes > self.max_bytes and trimmable:
            # Larger than the whole cache: what fits of it.
            n = n_tokens(tokens) * self.max_bytes // entry.n_bytes
            entry.state, entry.n_bytes = self._shrunk(entry, n)
            entry.tokens = first(tokens, n)
        return entry

    def _covered(self, tokens: bytes, trimmable: bool) -> bool:
        """Whether an entry already covers all of these tokens; this counts as a use."""
        with self._lock:
            for entry in self._entries:
                same = entry.tokens == tokens
                if same or (trimmable and entry.trimmable and entry.tokens.startswith(tokens)):
                    self._touch(entry)
                    return True
        return False

    def _drop_prefixes(self, entry: Entry) -> None:
        with self._lock:
            for other in list(self._entries):
                if other.trimmable and not other.n_leases and entry.tokens.startswith(other.tokens):
                    entry.n_uses += other.n_uses
                    entry.shared_tokens = entry.shared_tokens or other.shared_tokens
                    self._drop(other)

    def _has_room(self, n_bytes: int) -> bool:
        return self.n_bytes + n_bytes <= self.max_bytes and len(self._entries) < MAX_ENTRIES

    def _give_up_one(self) -> bool:
        """Free the memory of the lowest entry, but for a system prompt that nothing else holds."""
        with self._lock:
            idle = [entry for entry in self._entries if not entry.n_leases]
            if not idle:
                return False
            victim = min(idle, key=lambda entry: entry.rank)
            self._policy.evicted(victim.rank)
            if not self._holds_alone(victim):
                self._drop(victim)
                self.tally.evictions["room"] += 1
                self.unwritten += victim.due_s < math.inf
                return True
            victim.n_leases += 1
        try:
            state, n_bytes = self._shrunk(victim, victim.shared_tokens)
        except EngineFailed as error:
            self._lose(victim, error.message)
            return True
        finally:
            with self._lock:
                victim.n_leases -= 1
        with self._lock:
            # A lease that was taken meanwhile relies on the old state.
            if not victim.n_leases:
                self._cut(victim, state, n_bytes)
        return True

    def _holds_alone(self, entry: Entry) -> bool:
        """Whether an entry's system prompt is worth keeping without what follows it."""
        shared = first(entry.tokens, entry.shared_tokens)
        return (
            entry.trimmable
            and 0 < len(shared) < len(entry.tokens)
            and not any(
                other is not entry and other.trimmable and other.tokens.startswith(shared)
                for other in self._entries
            )
        )

    def _shrunk(self, entry: Entry, n: int) -> tuple[State, int]:
        """The state of its first tokens, and the bytes of that."""
        state = self._states.shrink(entry.state, n_tokens(entry.tokens) - n)
        return state, self._states.size_bytes(state)

    def _cut(self, entry: Entry, state: State, n_bytes: int) -> None:
        self.n_bytes += n_bytes - entry.n_bytes
        entry.state, entry.n_bytes = state, n_bytes
        entry.tokens = first(entry.tokens, entry.shared_tokens)
        self._touch(entry)
        self.tally.evictions["shrunk"] += 1
        self.unwritten += entry.due_s < math.inf

    def spoil(self, tokens: bytes) -> None:
        """Drop all that begins with these tokens: nothing could be drawn from such a state."""
        with self._lock:
            for entry in [each for each in self._entries if each.tokens.startswith(tokens)]:
                self._lose(entry, "no token could be sampled from it")

    def _drop(self, entry: Entry) -> None:
        self._entries.remove(entry)
        self.n_bytes -= entry.n_bytes

    def _touch(self, entry: Entry) -> None:
        self._now += 1
        use = Use(self._now, entry.n_uses, n_tokens(entry.tokens), entry.n_bytes)
        entry.rank = self._policy.rank(use)

    def n_due(self, *, everything: bool = False) -> int:
        """How many states are to be written by now, or at all."""
        with self._lock:
            until_s = self._due_until_s(everything=everything)
            return sum(entry.due_s <= until_s for entry in self._waiting())

    def _waiting(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.due_s < math.inf]

    def _due_until_s(self, *, everything: bool) -> float:
        # Many small ones would be given up before they have been quiet.
        is_crowded = len(self._waiting()) > MAX_ENTRIES // 2
        return math.inf if everything or is_crowded else time.monotonic()

    @property
    def waiting(self) -> tuple[int, int]:
        """Number and bytes of the states that wait to be written."""
        with self._lock:
            waiting = [entry.n_bytes for entry in self._waiting()]
        return len(waiting), sum(waiting)

    def lease_due(self, *, everything: bool = False) -> Lease | None:
        """Lease the state that has waited longest to be written; it doesn't wait any more."""
        with self._lock:
            entry = min(self._waiting(), key=lambda each: each.due_s, default=None)
            if entry is None or entry.due_s > self._due_until_s(everything=everything):
                return None
            entry.due_s = math.inf
            entry.n_leases += 1
            return Lease(self, entry, n_tokens(entry.tokens), entry.state)

    def forget_due(self) -> None:
        """Write nothing of what waits to be written."""
        with self._lock:
            for entry in self._entries:
                entry.due_s = math.inf

    def give_way(self, n_bytes: int) -> int:
        """Give up states until so many bytes are freed, or all that are not in use; return them."""
        before = self.n_bytes
        while before - self.n_bytes < n_bytes and self._give_up_one():
            pass
        return before - self.n_bytes

    def clear(self) -> int:
        """Forget every state that is not in use; return how many."""
        with self._lock:
            idle = [entry for entry in self._entries if not entry.n_leases]
            for entry in idle:
                self._drop(entry)
        return len(idle)

    def unload(self) -> None:
        """Give up every state that is not in use, as their model is unloaded. Engine thread."""
        with self._lock:
            idle = [entry for entry in self._entries if not entry.n_leases]
            self.unwritten += sum(entry.due_s < math.inf for entry in idle)
            self.tally.evictions["unloaded"] += self.clear()
