"""The mask of a filter over a store that grows: only what is new or was running is looked at."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.query.filters import Filter
from mlxdeck.telemetry.store.store import Store

PART_ROWS = 1 << 17
"""So many new rows are looked at in one go, which takes some milliseconds."""


class GrowingMask:
    """For one filter. A request that has ended stays as it is, unless it is written anew."""

    def __init__(self, store: Store, wanted: Filter, part_rows: int = PART_ROWS) -> None:
        self._store = store
        self._part_rows = part_rows
        self._wanted = wanted
        self._whole: object = None
        """While this is the same, requests that have ended match as before."""
        self._told: object = None
        """While this is the same, nothing is to be looked at."""
        self._running: list[int] = []
        self._mask: GrowableArray = np.zeros(0, bool)
        self.n_looked = 0
        """Rows that were looked at."""

    def at(self, now_ts: float) -> GrowableArray:
        """For each row as of a moment whether it matches."""
        while not self.advance(now_ts):
            pass
        return self._mask

    def advance(self, now_ts: float) -> bool:
        """Look at some rows more; return whether all are known."""
        store, whole = self._store, self.key(now_ts)
        at_once = self._wanted.is_of_others
        if whole != self._whole:
            # What changes faster than it is found would never be known.
            at_once = at_once or (self._whole is not None and self._told is None)
            self._whole, self._told, self._running = whole, None, []
            self._mask = np.zeros(0, bool)
        told = (store.n_lines, store.n_open)
        if told == self._told:
            return True
        n_before = len(self._mask)
        # Who is compared with others is looked at with all of them.
        n = store.n if at_once else min(store.n, n_before + self._part_rows)
        rows = np.union1d(self._running, np.arange(n_before, n)).astype(np.int64)
        mask = np.zeros(n, bool)
        mask[:n_before] = self._mask
        self._look(rows, mask, now_ts)
        self._running = [row for row in store.open_rows if row < n]
        if n < store.n:
            return False
        self._told = told
        return True

    def key(self, now_ts: float) -> Hashable:
        """While this value is the same, the mask only changes by what is new."""
        store, wanted = self._store, self._wanted
        n_others = store.n if wanted.is_of_others else 0
        n_found = store.n_found if wanted.said else 0
        return store.n_rewritten, n_others, n_found, wanted.as_of(now_ts)

    def _look(self, rows: GrowableArray, mask: GrowableArray, now_ts: float) -> None:
        self.n_looked += len(rows)
        table = self._store if len(rows) == self._store.n else self._store.some(rows)
        mask[rows] = self._wanted.mask(table, now_ts)
        self._mask = mask
