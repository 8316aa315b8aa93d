"""The mask of a filter over a store that grows: only what is new or was running is looked at."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.query.filters import Filter
from mlxdeck.telemetry.store.store import Store


class GrowingMask:
    """For one filter. A request that has ended stays as it is, unless it is written anew."""

    def __init__(self, store: Store, wanted: Filter) -> None:
        self._store = store
        self._wanted = wanted
        self._whole: object = None
        """While this is the same, requests that have ended match as before."""
        self._told: object = None
        self._running: list[int] = []
        self._mask: GrowableArray = np.zeros(0, bool)
        self.n_looked = 0
        """Rows that were looked at."""

    def at(self, now_ts: float) -> GrowableArray:
        """For each row as of a moment whether it matches."""
        store, n_before = self._store, len(self._mask)
        told = (store.n_lines, store.n_open)
        whole = self.key(now_ts)
        if whole != self._whole:
            self._look(np.arange(store.n), np.zeros(store.n, bool), now_ts)
        elif told != self._told:
            rows = np.union1d(self._running, np.arange(n_before, store.n)).astype(np.int64)
            mask = np.zeros(store.n, bool)
            mask[:n_before] = self._mask
            self._look(rows, mask, now_ts)
        self._whole, self._told, self._running = whole, told, store.open_rows
        return self._mask

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
