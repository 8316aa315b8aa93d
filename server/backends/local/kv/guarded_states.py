"""KV states for the caches: every error becomes `EngineFailed`.

Where memory is short, a library may raise any exception, on each thread that holds states. Caches
only distinguish a file that is no state, and a state that isn't available now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mlxdeck.server.backends.local.engine.api import State, States, StoredState
from mlxdeck.server.errors import EngineFailed, one_line

log = logging.getLogger(__name__)

T = TypeVar("T")


class GuardedStates:
    """The `States` of an engine."""

    def __init__(self, states: States) -> None:
        self._states = states

    def size_bytes(self, state: State) -> int:
        """Memory that it takes."""
        return _guarded(lambda: self._states.size_bytes(state))

    def trimmable(self, state: State) -> bool:
        """Whether its last tokens can be left out."""
        return _guarded(lambda: self._states.trimmable(state))

    def copy(self, state: State, n_dropped: int) -> State:
        """A private copy without its last tokens."""
        return _guarded(lambda: self._states.copy(state, n_dropped))

    def shrink(self, state: State, n_dropped: int) -> State:
        """A copy in memory of its own."""
        return _guarded(lambda: self._states.shrink(state, n_dropped))

    def save(self, state: State, path: Path) -> None:
        """Write a state to a file."""
        _guarded(lambda: self._states.save(state, path))

    def read(self, path: Path) -> StoredState:
        """Read a file into memory."""
        return _guarded(lambda: self._states.read(path))

    def restore(self, stored: StoredState) -> State:
        """Make a state from data in memory."""
        return _guarded(lambda: self._states.restore(stored))


def _guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except EngineFailed:
        raise
    # The edge of the engine's library: its exceptions are none of the caches'.
    except BaseException as error:
        log.warning("a KV state failed", exc_info=error)
        reason = one_line(error)
    # Out here, so that the new one doesn't hold the old one's frames, and with them arrays.
    raise EngineFailed(f"a KV state failed: {reason}")
