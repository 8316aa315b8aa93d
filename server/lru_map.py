"""A map of the values used last, bounded by number and by size. Safe from any thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruMap(Generic[K, V]):
    """The longest unused values give way."""

    def __init__(self, max_entries: int, max_size: int = 0) -> None:
        """`max_size` bounds the sum of all sizes, in the caller's unit; 0 is no limit."""
        self._max_entries, self._max_size = max_entries, max_size
        self._lock = threading.Lock()
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: K) -> V | None:
        """The value, which counts as used."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def put(self, key: K, value: V, size: int = 1) -> None:
        """Hold a value; one that is larger than all may be is not held."""
        with self._lock:
            self._drop(key)
            self._held[key] = value, size
            self.size += size
            while len(self._held) > self._max_entries or 0 < self._max_size < self.size:
                self._drop(next(iter(self._held)))

    def _drop(self, key: K) -> None:
        if held := self._held.pop(key, None):
            self.size -= held[1]
