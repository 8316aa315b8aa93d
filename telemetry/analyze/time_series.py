"""A window in buckets; each update computes only the buckets that have changed.

A closed bucket is computed again only if a request arrives late. On a live stream, an update
therefore computes only the open bucket.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.stats import (
    RANKS,
    Window,
    hit_tokens,
    judged_tokens,
    slower_tiers,
    trailing_ranks,
)
from mlxdeck.telemetry.analyze.time_grid import TimeGrid, first_run, time_grid
from mlxdeck.telemetry.analyze.token_flow import at_end, while_running
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import ERROR, OK
from mlxdeck.telemetry.store.progress_history import FLOWS
from mlxdeck.telemetry.store.store import Store

Array = np.ndarray[Any, np.dtype[Any]]
SUMS = (
    "n",
    "input",
    "exact",
    "prefix",
    "slower",
    "slower_exact",
    "errors",
    "calls",
    *FLOWS,
    "points",
)
"""Sums of each bucket, over the requests that ended in it, and the tokens that came in it."""
RANKED: Mapping[str, tuple[slice, Sequence[float]]] = {
    "duration_s": (slice(0, len(RANKS)), RANKS),
    "ttft_s": (slice(len(RANKS), None), RANKS[:1]),
}
"""Columns with percentiles: the place of their percentiles in the result, and the ranks."""

PART_ROWS = 1 << 17
"""So many requests are added up without a pause: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class View:
    """A choice of rows; equal `key`s mean the same choice."""

    mask: Array | None = None
    key: Hashable = None


EVERYTHING = View()


@dataclass(frozen=True, slots=True)
class Series:
    """A window in buckets of equal length; NaN where nothing happened."""

    start_ts: float
    bucket_s: float
    n: Array
    """Requests that ended in each bucket."""
    active: Array
    """Whether a request ended in it, or reported progress."""
    durations: Array
    """Shape (3, buckets): P50, P95 and P99 in seconds; NaN if they were not requested."""
    ttft: Array
    """Median times to the first token in seconds."""
    exact: Array
    prefix: Array
    slower: Array
    """Hit rates from 0 to 1: whole answers, cached states, and what of both was not in memory."""
    slower_exact: Array
    """What of the whole answers was not in memory."""
    errors: Array
    n_tool_calls: Array
    output_tokens: Array
    """Tokens written a second, counted as they come."""
    computed_tokens: Array
    """Prompt tokens read a second, without those from cache, counted as they are read."""


class TimeSeries:
    """One chart's buckets.

    Percentiles and rates cover the `look_back` buckets that end with a bucket; counts cover one
    bucket. Where requests are rare, a bucket often holds a single request, and all its percentiles
    would be equal.
    """

    def __init__(self, look_back: int = 1, ranked: Collection[str] = RANKED) -> None:
        """`ranked` are those of `RANKED` of which percentiles are wanted; they cost the most."""
        self._look_back = look_back
        self._ranked = ranked
        self._key: Hashable = None
        self._first = 0
        self._counts = np.zeros((2, 0), np.int64)
        self._unsummed = self._unranked = np.zeros(0, bool)
        """Buckets that have to be computed."""
        self.n_looked = 0
        """Requests that were looked at."""
        self._sums = np.zeros((len(SUMS), 0))
        self._ranks = np.zeros((len(RANKS) + 1, 0))

    def series(
        self, store: Store, window: Window, now_s: float, n_buckets: int, view: View = EVERYTHING
    ) -> Series:
        """The window as it is at a moment."""
        while not self.advance(store, window, now_s, n_buckets, view):
            pass
        return self._made(self._grid(store, window, now_s, n_buckets))

    def advance(
        self, store: Store, window: Window, now_s: float, n_buckets: int, view: View = EVERYTHING
    ) -> bool:
        """Compute some buckets more; whether `series` has nothing left to do."""
        grid = self._grid(store, window, now_s, n_buckets)
        rewritten = (store.n_rewritten, store.progress.n_sorted)
        self._note((window, grid.bucket_s, n_buckets, view.key, rewritten), grid)
        if (run := first_run(self._unsummed, grid.edges, PART_ROWS)) is not None:
            self._unsummed[run[0] : run[1] + 1] = False
            self._sum(store, grid, *run, view.mask)
        # Buckets before them are looked at again, so fewer at a time would cost more.
        elif (run := first_run(self._unranked, grid.edges, PART_ROWS, self._look_back)) is not None:
            self._unranked[run[0] : run[1] + 1] = False
            self._rank(store, grid, *run, view.mask)
        return not (self._unsummed.any() or self._unranked.any())

    def _grid(self, store: Store, window: Window, now_s: float, n_buckets: int) -> TimeGrid:
        return time_grid(store, window, now_s, n_buckets, self._look_back - 1)

    def _note(self, key: Hashable, grid: TimeGrid) -> None:
        """Mark the buckets that must be computed; the others' values move to their new place."""
        n_all, moved = grid.counts.shape[1], grid.first - self._first
        if key != self._key or not 0 <= moved < n_all:
            self._counts = np.full((2, n_all), -1)
            self._unsummed, self._unranked = np.ones(n_all, bool), np.ones(n_all, bool)
            self._sums = np.zeros((len(SUMS), n_all))
            self._ranks = np.full((len(RANKS) + 1, n_all), np.nan)
        elif moved:
            self._counts = np.hstack([self._counts[:, moved:], np.full((2, moved), -1)])
            self._unsummed, self._unranked = (
                np.roll(each, -moved) for each in (self._unsummed, self._unranked)
            )
            self._sums = np.roll(self._sums, -moved, axis=1)
            self._ranks = np.roll(self._ranks, -moved, axis=1)
        stale = (self._counts != grid.counts).any(axis=0)
        self._unsummed |= stale
        if self._ranked:
            self._unranked |= _trailing(stale.astype(int), self._look_back) > 0
            self._unranked[: self._look_back - 1] = False
        else:
            self._unranked[:] = False
        self._key, self._first, self._counts = key, grid.first, grid.counts

    def _sum(self, store: Store, grid: TimeGrid, first: int, last: int, mask: Array | None) -> None:
        rows, edges = _rows(store, grid, first, last, mask)
        self.n_looked += len(rows)
        self._sums[0, first : last + 1] = np.diff(edges)
        # One after the other: each is as long as the store may be.
        for place, values in enumerate(_summed(store, rows), 1):
            self._sums[place, first : last + 1] = _added_up(values, edges)
        edges = grid.point_edges[first : last + 2]
        if edges[0] == edges[-1]:
            self._sums[-1, first : last + 1] = 0
            return
        came = while_running(store, slice(edges[0], edges[-1]), mask)
        for name, values in came.items():
            self._sums[SUMS.index(name), first : last + 1] += _added_up(values, edges - edges[0])
        self._sums[-1, first : last + 1] = np.diff(edges)

    def _rank(
        self, store: Store, grid: TimeGrid, first: int, last: int, mask: Array | None
    ) -> None:
        """Of the windows that end with these buckets."""
        rows, edges = _rows(store, grid, first - self._look_back + 1, last, mask)
        rows, edges = _those(rows, edges, store.column("outcome")[rows] == OK)
        for name in self._ranked:
            place, ranks = RANKED[name]
            values = store.column(name)[rows]
            known, within = _those(values, edges, ~np.isnan(values))
            found = trailing_ranks(known, within, self._look_back, ranks)
            self._ranks[place, first : last + 1] = found

    def _made(self, grid: TimeGrid) -> Series:
        shown = slice(self._look_back - 1, None)
        own = dict(zip(SUMS, self._sums, strict=True))
        trailing = {name: _trailing(values, self._look_back) for name, values in own.items()}
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = {
                name: trailing[name] / trailing["input"]
                for name in ("exact", "prefix", "slower", "slower_exact")
            }
            some = np.where(trailing["n"] + trailing["points"] > 0, 1.0, np.nan)
            some /= grid.bucket_s * self._look_back
        return Series(
            start_ts=(grid.first + self._look_back - 1) * grid.bucket_s,
            bucket_s=grid.bucket_s,
            n=own["n"][shown].astype(np.int64),
            active=(own["n"] + own["points"] > 0)[shown],
            durations=self._ranks[:-1, shown].copy(),
            ttft=self._ranks[-1, shown].copy(),
            exact=shares["exact"][shown],
            prefix=shares["prefix"][shown],
            slower=shares["slower"][shown],
            slower_exact=shares["slower_exact"][shown],
            errors=own["errors"][shown].copy(),
            n_tool_calls=own["calls"][shown].copy(),
            output_tokens=(trailing["output"] * some)[shown],
            computed_tokens=(trailing["computed"] * some)[shown],
        )


def _rows(
    store: Store, grid: TimeGrid, first: int, last: int, mask: Array | None
) -> tuple[Array, Array]:
    """The rows of some buckets, where each of these begins among them, and the end."""
    edges = grid.edges[first : last + 2]
    rows = store.by_end.rows[edges[0] : edges[-1]]
    edges = edges - edges[0]
    return (rows, edges) if mask is None else _those(rows, edges, mask[rows])


def _those(values: Array, edges: Array, chosen: Array) -> tuple[Array, Array]:
    """Some of the values, and where the buckets begin among them."""
    return values[chosen], np.concatenate([[0], np.cumsum(chosen)])[edges]


def _summed(store: Store, rows: Array) -> Iterator[Array]:
    """The sums, in the order of `SUMS`, from the second one."""
    read = judged_tokens(store, rows)
    calls = summable(store.column("n_tool_calls")[rows])
    exact, prefix = hit_tokens(store, rows)
    yield from (read, exact, prefix)
    slower = slower_tiers(store, rows)
    yield np.where(slower, exact + prefix, 0)
    yield np.where(slower, exact, 0)
    yield store.column("outcome")[rows] == ERROR
    yield calls
    yield from at_end(store, rows, read).values()


def _added_up(values: Array, edges: Array) -> Array:
    """The sum of each bucket."""
    sums, some = np.zeros(len(edges) - 1), np.diff(edges) > 0
    if some.any():
        sums[some] = np.add.reduceat(values, edges[:-1][some], dtype=np.int64)
    return sums


def _trailing(values: Array, look_back: int) -> Array:
    """The sum of each value and those before it, `look_back` in all."""
    until = np.concatenate([np.zeros(look_back), np.cumsum(values)])
    return np.asarray(until[look_back:] - until[:-look_back])
