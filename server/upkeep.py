"""What goes on beside the requests, and goes on after a fault: logged, and counted each time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Upkeep:
    """What a server does by itself."""

    def __init__(self) -> None:
        self.errors = 0
        """Faults since the start."""
        self._failing: set[str] = set()

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Survive whatever is raised inside the block; the first of a row is logged."""
        try:
            yield
        # The task's edge: a tick that raises must not be the last one.
        except Exception:
            self.errors += 1
            if what not in self._failing:
                log.exception("%s failed", what)
            self._failing.add(what)
        else:
            self._failing.discard(what)
