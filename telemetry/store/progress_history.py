"""How far requests were, moment by moment, and the tokens that came in between.

A point is a `request.progress`. Of each point it is known how many tokens are new since the point
before it of the same request, so that tokens count when they come, not when their request ends.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray, grown
from mlxdeck.telemetry.columns.record_batch import POINT_KINDS, STATES, ProgressPoints
from mlxdeck.telemetry.store.string_table import StringTable

MAX_POINTS = 400_000
"""The oldest go once there are a quarter more; their tokens count at the point behind them."""
FLOWS = ("output", "computed")
"""Tokens that are written, and prompt tokens that are read and were not known."""

_KINDS: dict[str, Any] = {
    "ts": np.float64,
    "rows": np.int32,
    "states": np.int8,
    "waits_for": np.int32,
    **POINT_KINDS,
    **dict.fromkeys(FLOWS, np.int32),
}


class ProgressPoint(NamedTuple):
    """How far one request was at a moment; a number less than 0 is not known."""

    ts: float
    state: str
    state_s: float
    position: int
    waits_for: str
    prompt_tokens: int
    cached_tokens: int
    read_tokens: int
    output_tokens: int
    output_chars: int
    held: bool


class ProgressHistory:
    """All points in the order of their times. For one thread.

    Merged when it is looked at, not when it is added to.
    """

    def __init__(self, strings: StringTable, limit: int = MAX_POINTS) -> None:
        self._strings = strings
        self._limit = limit
        self._n = 0
        self._arrays = {name: np.zeros(256, kind) for name, kind in _KINDS.items()}
        self._counted = {name: np.zeros(256, np.int32) for name in FLOWS}
        """Of each request the tokens that its points have counted."""
        self.n_sorted = 0
        """How often the tokens of all points were computed anew."""
        self._waiting: list[dict[str, GrowableArray]] = []

    def __len__(self) -> int:
        self._merge()
        return self._n

    def add(self, points: ProgressPoints, rows: GrowableArray) -> None:
        """More of them, in any order; `rows` are those of their requests."""
        if not len(rows):
            return
        self._waiting.append(
            {
                "ts": points.ts,
                "rows": rows,
                "states": points.states,
                "waits_for": self._strings.numbers(points.waits_for),
                **points.numbers,
            }
        )

    @property
    def times(self) -> GrowableArray:
        """When each was. A view, as all below."""
        return self._column("ts")

    @property
    def rows(self) -> GrowableArray:
        """The request of each."""
        return self._column("rows")

    def flow(self, name: str) -> GrowableArray:
        """One of `FLOWS`: the tokens that came since the request's point before."""
        return self._column(name)

    def counted(self, name: str, rows: GrowableArray) -> GrowableArray:
        """Of some requests the tokens that their points have counted."""
        self._merge()
        if not len(rows):
            return np.zeros(0, np.int32)
        found: GrowableArray = self._room(name, int(rows.max()) + 1)[rows]
        return found

    def between(self, start_ts: float, end_ts: float) -> slice:
        """The points between two moments, both included."""
        first = int(np.searchsorted(self.times, start_ts, side="left"))
        return slice(first, int(np.searchsorted(self.times, end_ts, side="right")))

    def of(self, row: int, start_ts: float, ts: float) -> list[int]:
        """The places of a request's points from its start up to a moment, in order."""
        within = self.between(start_ts, ts)
        places: list[int] = (np.flatnonzero(self.rows[within] == row) + within.start).tolist()
        return places

    def reached(self, rows: GrowableArray) -> tuple[GrowableArray, ...]:
        """By the last points of some requests: tokens of their prompts, from cache, written.

        Less than 0 where nothing is known.
        """
        if not len(self):
            return (np.full(len(rows), -1),) * 3
        places = np.full(int(max(rows.max(), self.rows.max())) + 1, -1)
        # Of several points of a row the last one is assigned last.
        places[self.rows] = np.arange(self._n)
        own = places[rows]
        names = ("prompt_tokens", "cached_tokens", "output_tokens")
        return tuple(np.where(own < 0, -1, self._column(name)[own]) for name in names)

    def states(self, n_rows: int, ts: float) -> GrowableArray:
        """For each row of a store its last state up to a moment, as a place in `STATES`."""
        found, n = np.zeros(n_rows, np.int8), self.between(-math.inf, ts).stop
        # Of several points of a row the last one is assigned last.
        found[self.rows[:n]] = self._arrays["states"][:n]
        return found

    def point(self, place: int) -> ProgressPoint:
        """One of them."""
        at = {name: array[place].item() for name, array in self._arrays.items()}
        values = {name: at[name] for name in POINT_KINDS}
        return ProgressPoint(
            ts=at["ts"],
            state=STATES[at["states"]],
            waits_for=self._strings[at["waits_for"]],
            **values,
        )

    def _column(self, name: str) -> GrowableArray:
        self._merge()
        return self._arrays[name][: self._n]

    def _merge(self) -> None:
        if not self._waiting:
            return
        found = {
            name: np.concatenate([part[name] for part in self._waiting])
            for name in self._waiting[0]
        }
        self._waiting.clear()
        order = np.argsort(found["ts"], kind="stable")
        found = {name: values[order] for name, values in found.items()}
        begin = int(np.searchsorted(self._arrays["ts"][: self._n], found["ts"][0], side="right"))
        is_late = np.isin(self._arrays["rows"][begin : self._n], found["rows"]).any()
        first, n = self._n, self._n + len(order)
        for name, array in self._arrays.items():
            if n > len(array):
                self._arrays[name] = grown(array, first, n)
            if name in found:
                self._arrays[name][first:n] = found[name]
        self._n = n
        if is_late or self._is_full:
            # Points of one request in the wrong order, or points that have to go.
            self.n_sorted += 1
            self._sort(0)
            for counted in self._counted.values():
                counted[:] = 0
            self._count(0)
            return
        self._count(first)
        if begin < first:
            # Of several processes, each in its own order.
            self._sort(begin)

    @property
    def _is_full(self) -> bool:
        return self._n > self._limit * 5 // 4

    def _sort(self, begin: int) -> None:
        """Put those from a place on in order, and drop the oldest of all if there are too many."""
        order = begin + np.argsort(self._arrays["ts"][begin : self._n], kind="stable")
        if self._is_full:
            order = order[-self._limit :]
        for array in self._arrays.values():
            array[begin : begin + len(order)] = array[order]
        self._n = begin + len(order)

    def _count(self, first: int) -> None:
        """Compute the tokens of the points from a place on; those before it are counted."""
        a = self._arrays
        rows, new = a["rows"][first : self._n], slice(first, self._n)
        longest = int(rows.max()) + 1
        read = a["read_tokens"][new]
        computed = np.where(read < 0, 0, read - np.maximum(a["cached_tokens"][new], 0))
        order = np.lexsort((np.arange(len(rows)), rows))
        for name, values in zip(FLOWS, (a["output_tokens"][new], computed), strict=True):
            counted = self._room(name, longest)
            a[name][new][order] = _growth(rows[order], values[order], counted)

    def _room(self, name: str, n_rows: int) -> GrowableArray:
        """What is counted, for so many rows at least."""
        counted = self._counted[name]
        if n_rows > len(counted):
            counted = self._counted[name] = grown(counted, len(counted), n_rows)
        return counted


def _growth(rows: GrowableArray, values: GrowableArray, counted: GrowableArray) -> GrowableArray:
    """How much each value is above the highest one before it of its row, in rising order of rows.

    `counted` are the highest ones so far by row, and are kept up. A request that is answered anew,
    by another backend, begins at 0 again, and counts once.
    """
    reached = np.maximum(values, counted[rows]).astype(np.int64)
    # Rows rise, so that the highest value so far is one of the same row.
    highest = np.maximum.accumulate(rows.astype(np.int64) << 32 | reached) & 0xFFFF_FFFF
    before = np.empty_like(highest)
    before[1:] = highest[:-1]
    begins = np.concatenate([[True], rows[1:] != rows[:-1]])
    before[begins] = counted[rows[begins]]
    counted[rows] = highest
    return highest - before
