"""Regular work beside the requests; errors are logged and counted, and the work continues."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Upkeep:
    """Background work of a server."""

    def __init__(self) -> None:
        self.errors = 0
        """Faults since the start."""
        self._failing: set[str] = set()

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Survive every exception inside the block; the first one of a series is logged."""
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
