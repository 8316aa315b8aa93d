"""The engine thread as such: one for all models, which take turns on it.

Each model has a scheduler of its own. While several have work, each gets a turn after every other,
which is a step at most: none waits for more than one step of each other model.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Protocol

from mlxdeck.server.backends.local.activity import Activity
from mlxdeck.server.backends.local.engine.api import Memory

log = logging.getLogger(__name__)


class Occupant(Protocol):
    """Who works on the thread. All of it is called there."""

    def begin(self) -> None:
        """Get ready; any exception ends it."""

    def turn(self, *, alone: bool) -> bool:
        """Do what is asked and one step, without waiting; False is to end, as is an exception.

        `alone` is whether nobody else has work, so that a short wait costs nobody anything.
        """

    @property
    def busy(self) -> bool:
        """Whether the next turn has something to do."""

    def end(self, error: BaseException | None) -> None:
        """Release everything; never raises. `error` is why it ends, if it wasn't asked to."""


class SharedThread:
    """One thread and its occupants; it runs while there are any. Safe from any thread."""

    def __init__(self) -> None:
        self.activity = Activity()
        self.memory = Memory()
        """Of the device, as of the last step of any occupant."""
        self._bell = threading.Event()
        self._lock = threading.Lock()
        self._newcomers: deque[Occupant] = deque()
        self._thread: threading.Thread | None = None
        self._is_running = False

    def enter(self, occupant: Occupant) -> None:
        """Have `occupant` begin, and then take its turns."""
        with self._lock:
            self._newcomers.append(occupant)
            if not self._is_running:
                self._is_running = True
                self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
                self._thread.start()
        self.ring()

    def ring(self) -> None:
        """Say that an occupant has something to do."""
        self._bell.set()

    @property
    def alive(self) -> bool:
        """Whether it still runs; it may be anywhere in a library's code."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        occupants: list[Occupant] = []
        while True:
            # Before looking for work: what comes later rings again.
            self._bell.clear()
            if not self._take_in(occupants):
                return
            for each in tuple(occupants):
                alone = not any(other.busy for other in occupants if other is not each)
                if not _turned(each, alone=alone):
                    occupants.remove(each)
            if occupants and not any(each.busy for each in occupants):
                self._bell.wait()

    def _take_in(self, occupants: list[Occupant]) -> bool:
        """Have newcomers begin; return whether anybody is there."""
        while True:
            with self._lock:
                if not self._newcomers:
                    self._is_running = bool(occupants)
                    return self._is_running
                newcomer = self._newcomers.popleft()
            if _begun(newcomer):
                occupants.append(newcomer)


def _begun(occupant: Occupant) -> bool:
    try:
        occupant.begin()
    # The edge of the thread: loading a model may raise anything.
    except BaseException as error:
        log.debug("the engine thread can't begin", exc_info=error)
        occupant.end(error)
        return False
    return True


def _turned(occupant: Occupant, *, alone: bool) -> bool:
    try:
        if occupant.turn(alone=alone):
            return True
    # The edge of the thread: the others continue, and who has waited for this one is told.
    except BaseException as error:
        log.debug("an engine ends", exc_info=error)
        occupant.end(error)
        return False
    occupant.end(None)
    return False
