"""KV states in RAM, shared between the prompt thread that leases and the engine thread that keeps.

A lease is a private copy, so nothing that is in use can be evicted; the copies share memory until
one is written. What a state is only the engine knows: this module counts and locks.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from mlxdeck.server.engine import KVState, State, StateStore


@dataclass(frozen=True, slots=True)
class Lease:
    """The longest known prefix of a prompt; `n_cached` is 0 when nothing is known."""

    n_cached: int
    state: State | None


class PrefixCache:
    """The longest cached prefix of any prompt. Safe from any thread."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.hit_tokens = 0
        self.prompt_tokens = 0
        self.hits = 0
        self.misses = 0

    def lease(self, tokens: Sequence[int]) -> Lease:
        """Take a copy of the longest cached prefix.

        It is at most `len(tokens) - 1` long, so that one token is always left to run.
        """
        with self._lock:
            n_cached, state = self._store.fetch(tokens)
            self.hit_tokens += n_cached
            self.prompt_tokens += len(tokens)
            self.hits += n_cached > 0
            self.misses += n_cached == 0
        return Lease(n_cached, state)

    def keep(self, kept: KVState) -> None:
        """Remember a state; others may be evicted for it."""
        with self._lock:
            self._store.insert(kept.tokens, kept.state)

    def clear(self) -> None:
        """Forget every state."""
        with self._lock:
            self._store.clear()

    @property
    def n_bytes(self) -> int:
        """Bytes held."""
        return self._store.n_bytes

    def __len__(self) -> int:
        return self._store.n_entries
