"""A value that one thread makes for another, and that is released if nobody takes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """One value in transfer. Its receiver either takes it or abandons it, once."""

    def __init__(self, release: Callable[[T], None]) -> None:
        """`release` is called with an abandoned value, on the thread that comes last."""
        self._release = release
        self._lock = threading.Lock()
        self._values: list[T] = []
        self._is_abandoned = False

    def put(self, value: T) -> None:
        """Hand a value over. Any thread."""
        with self._lock:
            if not self._is_abandoned:
                self._values.append(value)
                return
        self._release(value)

    def take(self) -> T:
        """The value, which is the taker's to release from now on. It must have been put."""
        with self._lock:
            return self._values.pop()

    def abandon(self) -> None:
        """Abandon the value: release it now, or as soon as it arrives."""
        with self._lock:
            self._is_abandoned = True
            values, self._values = self._values, []
        for value in values:
            self._release(value)
