"""Rows in the order of a time, kept up as they come: what lies between two moments is a slice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlxdeck.telemetry.columns.growable_array import grown

Rows = np.ndarray[Any, np.dtype[np.int32]]
Times = np.ndarray[Any, np.dtype[np.float64]]


class TimeIndex:
    """Merged when it is looked at, not when it is added to. For one thread."""

    def __init__(self) -> None:
        self._n = 0
        self._rows: Rows = np.zeros(1024, np.int32)
        self._times: Times = np.zeros(1024, np.float64)
        self._waiting: list[tuple[Any, Any]] = []
        self._waiting_ts = math.inf
        """The earliest of them."""
        self.n_inserted = 0
        """How often rows were put in front of others, so that those have other places."""

    def add(self, rows: Any, times: Any) -> None:
        """More rows, each with its time, in any order."""
        if len(rows):
            self._waiting.append((rows, times))
            self._waiting_ts = min(self._waiting_ts, float(np.min(times)))

    def move(self, rows: Any, times: Any) -> None:
        """Rows that are here already have other times."""
        self.remove(rows)
        self.add(rows, times)

    def remove(self, rows: Any) -> None:
        """Rows that are here have no time any more."""
        self._merge()
        stay = ~np.isin(self._rows[: self._n], rows)
        n = int(stay.sum())
        self.n_inserted += 1
        self._rows[:n], self._times[:n] = self._rows[: self._n][stay], self._times[: self._n][stay]
        self._n = n

    @property
    def first_ts(self) -> float:
        """The earliest time; infinity of no rows. Nothing is merged for it."""
        return min(float(self._times[0]) if self._n else math.inf, self._waiting_ts)

    @property
    def rows(self) -> Rows:
        """All rows, the earliest first; those of the same time as they came. A view."""
        self._merge()
        return self._rows[: self._n]

    @property
    def times(self) -> Times:
        """The time of each of `rows`. A view."""
        self._merge()
        return self._times[: self._n]

    def between(self, start_ts: float, end_ts: float) -> Rows:
        """The rows whose time lies between two moments, both included. A view."""
        first = int(np.searchsorted(self.times, start_ts, side="left"))
        return self._rows[first : self.until(end_ts)]

    def until(self, end_ts: float) -> int:
        """How many rows are not later than a moment."""
        return int(np.searchsorted(self.times, end_ts, side="right"))

    def _merge(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate([rows for rows, _ in self._waiting]).astype(np.int32)
        times = np.concatenate([times for _, times in self._waiting]).astype(np.float64)
        self._waiting.clear()
        self._waiting_ts = math.inf
        # Only rows later than the earliest new one have to move.
        begin = int(np.searchsorted(self._times[: self._n], times.min(), side="right"))
        self.n_inserted += begin < self._n
        rows = np.concatenate([self._rows[begin : self._n], rows])
        times = np.concatenate([self._times[begin : self._n], times])
        order = np.argsort(times, kind="stable")
        n = begin + len(rows)
        if n > len(self._rows):
            self._rows, self._times = (
                grown(each, self._n, n) for each in (self._rows, self._times)
            )
        self._n = n
        self._rows[begin : self._n], self._times[begin : self._n] = rows[order], times[order]
