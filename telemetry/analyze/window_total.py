"""Figures of a window, added up a part at a time, and kept up as more requests end.

Over a million requests all of it takes a tenth of a second, which no key should have to wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array, Window, bounds
from mlxdeck.telemetry.analyze.time_series import EVERYTHING, PART_ROWS, View
from mlxdeck.telemetry.store.store import Store

MAX_PARTS = 1_000
"""Of what changes all the time, the rest is computed at once."""
_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class Sums(Protocol[_T_co]):
    """What is added up."""

    def add(self, store: Store, rows: Array) -> None:
        """More requests that ended in the window."""

    def found(self, store: Store, window: Window, now_s: float, mask: Array | None) -> _T_co:
        """The figures of all that were added; with a mask, only rows of it were."""


class AtOnce(Generic[_T]):
    """Figures that can't be added up in parts."""

    def __init__(self, find: Callable[[Store, Window, float, Array | None], _T]) -> None:
        self._find = find

    def add(self, store: Store, rows: Array) -> None:
        """Nothing is kept."""

    def found(self, store: Store, window: Window, now_s: float, mask: Array | None) -> _T:
        """All of it."""
        return self._find(store, window, now_s, mask)


class Total(Generic[_T]):
    """A window's figures; only requests that were not there last time are added."""

    def __init__(self, new: Callable[[], Sums[_T]]) -> None:
        """`new` makes sums of nothing."""
        self._new = new
        self._sums = new()
        self._scope: Hashable = None
        self._until = 0
        """Place in the order of ends up to which requests were added."""
        self._key: Hashable = None
        self._found: _T | None = None
        self.n_added = 0
        """Requests that were looked at, again and again those of other windows."""

    def advance(
        self,
        store: Store,
        window: Window,
        now_s: float,
        view: View = EVERYTHING,
        version: Hashable = None,
    ) -> bool:
        """Add up one part more; whether `at` has nothing left to do.

        `version` changes with what the figures depend on besides requests that ended.
        """
        start_ts, end_ts = bounds(store, window, now_s)
        first = int(np.searchsorted(store.by_end.times, start_ts))
        until = store.by_end.until(end_ts)
        points = store.progress.between(start_ts, end_ts)
        rewritten = (store.n_rewritten, store.progress.n_sorted, store.by_end.n_inserted)
        scope = (window, first, view.key, rewritten)
        key = (scope, until, points.start, points.stop, version)
        if self._found is not None and key == self._key:
            return True
        if scope != self._scope or until < self._until:
            self._scope, self._until, self._sums = scope, first, self._new()
        rows = store.by_end.rows[self._until : min(until, self._until + PART_ROWS)]
        self._until += len(rows)
        self.n_added += len(rows)
        self._sums.add(store, rows if view.mask is None else rows[view.mask[rows]])
        if self._until < until or len(rows) > PART_ROWS // 2:
            # After a large part, what is left to do waits for the next turn.
            return False
        self._key, self._found = key, self._sums.found(store, window, now_s, view.mask)
        return True

    def at(
        self,
        store: Store,
        window: Window,
        now_s: float,
        view: View = EVERYTHING,
        version: Hashable = None,
    ) -> _T:
        """The figures at a moment."""
        while not self.advance(store, window, now_s, view, version):
            pass
        assert self._found is not None
        return self._found


def in_parts(advance: Callable[[], bool]) -> Iterator[None]:
    """Pauses until something is done."""
    for _ in range(MAX_PARTS):
        if advance():
            return
        yield
