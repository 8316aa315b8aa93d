"""A window in buckets of equal length, and where each begins among requests. Pure.

A bucket's edges are whole multiples of its length. So a request stays in its bucket while the
window moves on, and a chart doesn't flicker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.stats import Window, bounds
from mlxdeck.telemetry.store.store import Store

Array = np.ndarray[Any, np.dtype[Any]]
COARSER = 1.02
"""What "all" spans grows by this factor with the stream, and stays the same between steps."""
MIN_BUCKET_S = 1e-3


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Buckets with what comes before them."""

    first: int
    """The first bucket's number: how many of its length since 1970."""
    bucket_s: float
    edges: Array
    """Where each begins among the rows by end; the last one is the end of the window."""
    point_edges: Array
    """The same among the points of `store.progress`."""

    @property
    def counts(self) -> Array:
        """Requests and points: a bucket with as many of both as before is as before."""
        return np.stack([np.diff(self.edges), np.diff(self.point_edges)])


def span_s(store: Store, window: Window, now_s: float) -> float:
    """What a chart of a window spans, whatever its width."""
    start_ts, end_ts = bounds(store, window, now_s)
    if window.length_s is not None:
        return window.length_s
    return float(COARSER ** np.ceil(np.log(end_ts - start_ts) / np.log(COARSER)))


def time_grid(
    store: Store, window: Window, now_s: float, n_buckets: int, n_before: int = 0
) -> TimeGrid:
    """As many buckets as are wanted, and `n_before` in front of them."""
    bucket_s = max(span_s(store, window, now_s) / n_buckets, MIN_BUCKET_S)
    n_all = n_buckets + n_before
    first = int(np.floor(now_s / bucket_s)) - n_all + 1
    starts = (first + np.arange(n_all + 1)) * bucket_s
    edges, point_edges = (
        np.append(np.minimum(np.searchsorted(times, starts[:-1]), n), n)
        for times in (store.by_end.times, store.progress.times)
        for n in [int(np.searchsorted(times, now_s, side="right"))]
    )
    return TimeGrid(first, bucket_s, edges, point_edges)


def runs(flags: Array) -> list[tuple[int, int]]:
    """The first and the last bucket of each stretch that is set."""
    turns = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(end) - 1) for first, end in turns.reshape(-1, 2)]


def first_run(
    flags: Array, edges: Array, max_rows: int, min_buckets: int = 1
) -> tuple[int, int] | None:
    """The first and the last bucket of the first stretch that is set; None if nothing is.

    Of a long one the beginning: `min_buckets`, or more of them with at most `max_rows` requests.
    """
    if not flags.any():
        return None
    first = int(flags.argmax())
    rest = flags[first:]
    n_set = len(rest) if rest.all() else int(rest.argmin())
    few = int(np.searchsorted(edges, edges[first] + max_rows, side="right")) - 1 - first
    return first, first + min(n_set, max(few, min_buckets)) - 1
