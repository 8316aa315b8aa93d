"""What a thread is at, and since when: how others see that it hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Activity:
    """What one thread is at. Its own thread writes, any other reads; no locks are needed."""

    def __init__(self) -> None:
        self._at: tuple[str, float] | None = None

    @contextmanager
    def at(self, what: str) -> Iterator[None]:
        """Say what the thread does inside the block; each block that begins or ends is progress."""
        before = self._at
        self._at = what, time.monotonic()
        try:
            yield
        finally:
            self._at = (before[0], time.monotonic()) if before else None

    def stuck(self, limit_s: float) -> str:
        """What the thread has been at for longer than `limit_s`; empty if it isn't."""
        at = self._at
        return at[0] if at is not None and time.monotonic() - at[1] > limit_s else ""
