"""What the models of one process share: the engine thread, and the memory for KV states."""

from __future__ import annotations

from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.scheduler.shared_thread import SharedThread


class Resources:
    """Of all local models of a process. For the event loop."""

    def __init__(self, states_bytes: int = 0) -> None:
        """`states_bytes` limits all KV states in RAM; 0 takes what the models leave free."""
        self.thread = SharedThread()
        self._states_bytes = states_bytes
        self._caches: list[tuple[PrefixCache, float]] = []

    def divide(self, ram: PrefixCache, weight: float, spare_bytes: int) -> None:
        """Give another model's states their part by weight, and those before it theirs anew.

        `spare_bytes` is what is left for states now, beside those that are there.
        """
        held_bytes = sum(each.n_bytes for each, _ in self._caches)
        self._caches.append((ram, weight))
        whole = self._states_bytes or spare_bytes + held_bytes
        weights = sum(each for _, each in self._caches)
        for cache, each in self._caches:
            cache.max_bytes = int(whole * each / weights)
