"""Rows in the order of a time, kept up as they come: what lies between two moments is a slice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlxdeck.telemetry.columns.growable_array import grown

Rows = np.ndarray[Any, np.dtype[np.int32]]
Times = np.ndarray[Any, np.dtype[np.float64]]
MAX_WAITING = 1 << 16
"""So many rows at most, as whoever looks waits until they are merged."""


class TimeIndex:
    """Merged when it is looked at, or much waits, not when it is added to. For one thread."""

    def __init__(self) -> None:
        self._n = 0
        self._rows: Rows = np.zeros(1024, np.int32)
        self._times: Times = np.zeros(1024, np.float64)
        self._waiting: list[tuple[Any, Any]] = []
        self._waiting_ts = math.inf
        """The earliest of them."""
        self._n_waiting = 0
        self.n_inserted = 0
        """How often rows were put in front of others, so that those have other places."""

    def add(self, rows: Any, times: Any) -> None:
        """More rows, each with its time, in any order."""
        if len(rows):
            self._waiting.append((rows, times))
            self._waiting_ts = min(self._waiting_ts, float(np.min(times)))
            self._n_waiting += len(rows)
            if self._n_waiting > MAX_WAITING:
                self._merge()

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
        self._waiting_ts, self._n_waiting = math.inf, 0
        order = np.argsort(times, kind="stable")
        rows, times = rows[order], times[order]
        # Only rows later than the earliest new one have to move.
        begin = int(np.searchsorted(self._times[: self._n], times[0], side="right"))
        self.n_inserted += begin < self._n
        places = np.searchsorted(self._times[begin : self._n], times, side="right")
        n_before, n = self._n, self._n + len(rows)
        if n > len(self._rows):
            self._rows, self._times = (
                grown(each, self._n, n) for each in (self._rows, self._times)
            )
        self._n = n
        # One after the other: both at once would need four times as much memory for a moment.
        self._rows[begin:n] = np.insert(self._rows[begin:n_before], places, rows)
        self._times[begin:n] = np.insert(self._times[begin:n_before], places, times)
