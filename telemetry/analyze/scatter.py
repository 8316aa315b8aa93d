"""How many requests lie in each cell of a chart of their latency, by how they ended.

Each update counts only the columns that have changed, as a live stream changes the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.stats import Window
from mlxdeck.telemetry.analyze.time_grid import TimeGrid, runs, time_grid
from mlxdeck.telemetry.analyze.time_series import EVERYTHING, View
from mlxdeck.telemetry.schema.figures import CACHES, ERROR, EXACT, MISS, OK, OUTCOMES, PREFIX
from mlxdeck.telemetry.store.store import Store

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = ("exact", "prefix", "miss", "error", "cut off")
"""Answers by what came from a cache, errors, and what was cancelled or lost."""
_ERROR, _CUT_OFF = 3, 4
_TABLE = np.full((len(OUTCOMES), len(CACHES)), _CUT_OFF, np.int8)
_TABLE[OK] = 2
_TABLE[OK, [EXACT, PREFIX, MISS]] = [0, 1, 2]
_TABLE[ERROR] = _ERROR
_KIND_OF = _TABLE.ravel()
"""By outcome and cache, one number of both: as many bytes as a request has of each."""
RowOf = Callable[[Array], Array]
"""The line of cells of each latency."""


class Scatter:
    """One chart's dots. For the store's thread."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._first = 0
        self._grid_counts = np.zeros((2, 0), np.int64)
        self._stale = np.zeros(0, bool)
        self._store: Store | None = None
        self._grid: TimeGrid | None = None
        self._mask: Array | None = None
        self._scale: Hashable = None
        self.version = 0
        """How often dots have changed or moved."""
        self._cells = np.zeros((len(KINDS), 0, 0), np.int32)
        self._columns = np.zeros((len(KINDS), 0), np.int32)
        self._ends = np.zeros((2, 0))

    def look(
        self, store: Store, window: Window, now_s: float, n_buckets: int, view: View = EVERYTHING
    ) -> None:
        """Take in the window as it is at a moment."""
        grid = time_grid(store, window, now_s, n_buckets)
        key = (window, grid.bucket_s, n_buckets, view.key, store.n_rewritten)
        moved = grid.first - self._first if key == self._key else n_buckets
        if not 0 <= moved < n_buckets:
            self._grid_counts = np.full((2, n_buckets), -1)
            self._stale = np.ones(n_buckets, bool)
            self._columns = np.zeros((len(KINDS), n_buckets), np.int32)
            self._ends = np.full((2, n_buckets), np.nan)
            self._scale = None
        elif moved:
            self._grid_counts = np.roll(self._grid_counts, -moved, axis=1)
            self._grid_counts[:, -moved:] = -1
            for each in (self._stale, self._columns, self._ends, self._cells):
                each[...] = np.roll(each, -moved, axis=-1)
        changed = self._grid_counts[0] != np.diff(grid.edges)
        self._key, self._first, self._grid_counts = key, grid.first, grid.counts
        self._store, self._grid, self._mask = store, grid, view.mask
        self._stale |= changed
        self.version += bool(moved or changed.any())
        for first, last in runs(changed):
            self._measure(first, last)

    @property
    def columns(self) -> Array:
        """How many dots of each of `KINDS` are in each column."""
        return self._columns

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest latency above zero, and the highest; NaN without any."""
        if np.isnan(self._ends[1]).all():
            return float("nan"), float("nan")
        low = self._ends[0]
        least = float(np.nanmin(low)) if not np.isnan(low).all() else float("nan")
        return least, float(np.nanmax(self._ends[1]))

    def cells(self, scale: Hashable, n_rows: int, row_of: RowOf) -> Array:
        """How many dots of each kind are in each cell: shape (kinds, rows, columns).

        The result changes with the next call; `scale` is equal while `row_of` is the same.
        """
        if scale != self._scale:
            self._scale = scale
            self._cells = np.zeros((len(KINDS), n_rows, len(self._stale)), np.int32)
            self._stale[:] = True
        for first, last in runs(self._stale):
            durations, kinds, columns = self._dots(first, last)
            size = last - first + 1
            places = (kinds * np.int32(n_rows) + row_of(durations)) * np.int32(size) + columns
            found = np.bincount(places, minlength=len(KINDS) * n_rows * size)
            self._cells[:, :, first : last + 1] = found.reshape(len(KINDS), n_rows, size)
        self._stale[:] = False
        return self._cells

    def _measure(self, first: int, last: int) -> None:
        durations, kinds, columns = self._dots(first, last)
        size = last - first + 1
        found = np.bincount(kinds * np.int32(size) + columns, minlength=len(KINDS) * size)
        self._columns[:, first : last + 1] = found.reshape(len(KINDS), size)
        self._ends[:, first : last + 1] = np.nan
        begins = np.searchsorted(columns, np.arange(size))
        some = np.flatnonzero(np.diff(begins, append=len(columns)))
        if len(some):
            begins = begins[some]
            positive = np.where(durations > 0, durations, np.float32(np.inf))
            lowest = np.minimum.reduceat(positive, begins)
            self._ends[0, first + some] = np.where(np.isinf(lowest), np.nan, lowest)
            self._ends[1, first + some] = np.maximum.reduceat(durations, begins)

    def _dots(self, first: int, last: int) -> tuple[Array, Array, Array]:
        """Latency, kind and column of each request of some columns."""
        store, grid = self._store, self._grid
        if store is None or grid is None:
            return np.zeros(0, np.float32), np.zeros(0, np.int8), np.zeros(0, np.int32)
        edges = grid.edges[first : last + 2]
        rows = store.by_end.rows[edges[0] : edges[-1]]
        columns = np.repeat(np.arange(last - first + 1, dtype=np.int32), np.diff(edges))
        if self._mask is not None:
            # By their places: to select by a mask takes several times as long.
            own = np.flatnonzero(self._mask[rows])
            rows, columns = rows[own], columns[own]
        durations = store.column("duration_s")[rows]
        if (unknown := np.isnan(durations)).any():
            own = np.flatnonzero(~unknown)
            rows, columns, durations = rows[own], columns[own], durations[own]
        kinds = store.column("outcome")[rows] * np.int8(len(CACHES))
        kinds += store.column("cache")[rows]
        return durations, _KIND_OF.take(kinds), columns
