"""Arithmetic over a store: windows, exact percentiles, token-weighted hit rates.

Pure functions of a store and a time. Percentiles are by nearest rank: each is a duration that some
request really had. Hit rates are weighted by tokens, since a cached system prompt of 18,000 tokens
is worth more than a cached "hello"; exact and prefix hits never overlap, so they add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.batch import ERROR, EXACT, OK
from mlxdeck.telemetry.store import Store

Array = np.ndarray[Any, np.dtype[Any]]
RANKS = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time up to now; None is everything."""

    label: str
    length_s: float | None


WINDOWS = (
    Window("1m", 60),
    Window("5m", 300),
    Window("15m", 900),
    Window("1h", 3600),
    Window("all", None),
)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """P50, P95 and P99 in seconds, and of how many values; NaN of none."""

    p50: float
    p95: float
    p99: float
    n: int


@dataclass(frozen=True, slots=True)
class HitRate:
    """Shares of all prompt tokens, from 0 to 1; NaN without any."""

    exact: float
    prefix: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.exact + self.prefix


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one window."""

    n_requests: int
    n_errors: int
    duration: Percentiles
    ttft: Percentiles
    hits: HitRate
    input_tokens: int
    output_tokens: int
    n_tool_calls: int


@dataclass(frozen=True, slots=True)
class Series:
    """A window in buckets of equal length; NaN where nothing happened."""

    start_ts: float
    bucket_s: float
    n: Array
    """Requests that ended in each bucket."""
    durations: Array
    """Shape (3, buckets): P50, P95 and P99 in seconds."""
    ttft: Array
    """Median times to the first token in seconds."""
    exact: Array
    prefix: Array
    """Hit rates from 0 to 1."""
    errors: Array
    n_tool_calls: Array
    output_tokens: Array
    """Tokens written a second."""
    computed_tokens: Array
    """Prompt tokens read a second, without those from cache."""


def nearest_rank(values: Array, ranks: Sequence[float] = RANKS) -> list[float]:
    """Percentiles of `values` by nearest rank; NaN for each if there are none."""
    if not len(values):
        return [float("nan")] * len(ranks)
    places = [max(0, int(np.ceil(rank / 100 * len(values))) - 1) for rank in ranks]
    ordered = np.partition(values, sorted(set(places)))
    return [float(ordered[place]) for place in places]


def percentiles(values: Array) -> Percentiles:
    """P50, P95 and P99 of the values that are numbers."""
    known = values[~np.isnan(values)]
    p50, p95, p99 = nearest_rank(known)
    return Percentiles(p50, p95, p99, len(known))


def bounds(store: Store, window: Window, now_s: float) -> tuple[float, float]:
    """First and last moment of a window; "all" begins with the first event."""
    if window.length_s is None:
        return min(store.first_ts or now_s, now_s - 1), now_s
    return now_s - window.length_s, now_s


def ended_in(store: Store, start_ts: float, end_ts: float, mask: Array | None = None) -> Array:
    """Rows of requests that ended between two moments, both included, oldest first.

    With a mask, only those that it has.
    """
    rows = store.by_end.between(start_ts, end_ts)
    return rows if mask is None else rows[mask[rows]]


def summary(store: Store, window: Window, now_s: float, mask: Array | None = None) -> Summary:
    """The figures of a window, over all requests or those of a mask."""
    start_ts, end_ts = bounds(store, window, now_s)
    rows = ended_in(store, start_ts, end_ts, mask)
    good = rows[store.column("outcome")[rows] == OK]
    return Summary(
        n_requests=len(rows),
        n_errors=int((store.column("outcome")[rows] == ERROR).sum()),
        duration=percentiles(store.column("duration_s")[good]),
        ttft=percentiles(store.column("ttft_s")[good]),
        hits=hit_rate(store, rows),
        input_tokens=int(store.column("input_tokens")[rows].sum()),
        output_tokens=int(store.column("output_tokens")[rows].sum()),
        n_tool_calls=int(store.column("n_tool_calls")[rows].sum()),
    )


def hit_rate(store: Store, rows: Array) -> HitRate:
    """How much of the prompts of some requests was known."""
    total = store.column("input_tokens")[rows].sum()
    if not total:
        return HitRate(float("nan"), float("nan"))
    exact, prefix = hit_tokens(store, rows)
    return HitRate(float(exact.sum() / total), float(prefix.sum() / total))


def hit_tokens(store: Store, rows: Array) -> tuple[Array, Array]:
    """Prompt tokens per row that came with a whole answer, and from cached states."""
    whole = store.column("cache")[rows] == EXACT
    exact = np.where(whole, store.column("input_tokens")[rows], 0)
    prefix = np.where(whole, 0, store.column("cached_tokens")[rows])
    return exact, prefix


def series(
    store: Store,
    window: Window,
    now_s: float,
    n_buckets: int,
    look_back: int = 1,
    mask: Array | None = None,
) -> Series:
    """A window in `n_buckets`; a bucket's edges move with `now_s` by whole buckets only.

    So a request stays in its bucket from one drawing to the next, and the lines don't flicker.
    Percentiles and rates take in the `look_back` buckets that end with theirs, counts only theirs:
    where requests are rare, a bucket alone would hold one of them, and all percentiles be the same.
    """
    start_ts, end_ts = bounds(store, window, now_s)
    bucket_s = max((end_ts - start_ts) / n_buckets, 1e-3)
    start_ts = (np.floor(end_ts / bucket_s) - n_buckets + 1) * bucket_s
    rows = ended_in(store, start_ts, end_ts, mask)
    bucket = ((store.column("end_ts")[rows] - start_ts) // bucket_s).astype(np.int64)
    bucket = np.clip(bucket, 0, n_buckets - 1)
    outcome = store.column("outcome")[rows]
    good = outcome == OK
    slowness = store.column("duration_s")[rows[good]]
    waits = store.column("ttft_s")[rows[good]]

    def sums(values: Array) -> Array:
        return np.bincount(bucket, values, n_buckets)

    def rates(values: Array) -> Array:
        found = _trailing(sums(values), look_back) / (bucket_s * look_back)
        return np.where(_trailing(sums(np.ones(len(rows))), look_back) > 0, found, np.nan)

    total = _trailing(sums(store.column("input_tokens")[rows]), look_back)
    nothing = np.full(n_buckets, np.nan)
    shares = [
        np.divide(_trailing(sums(part), look_back), total, out=nothing.copy(), where=total > 0)
        for part in hit_tokens(store, rows)
    ]
    return Series(
        start_ts=float(start_ts),
        bucket_s=float(bucket_s),
        n=np.bincount(bucket, minlength=n_buckets),
        durations=_percentiles(slowness, bucket[good], n_buckets, look_back, RANKS),
        ttft=_percentiles(waits, bucket[good], n_buckets, look_back, (50,))[0],
        exact=shares[0],
        prefix=shares[1],
        errors=sums(outcome == ERROR),
        n_tool_calls=sums(store.column("n_tool_calls")[rows]),
        output_tokens=rates(store.column("output_tokens")[rows]),
        computed_tokens=rates(
            store.column("input_tokens")[rows] - store.column("cached_tokens")[rows]
        ),
    )


def _trailing(sums: Array, look_back: int) -> Array:
    """Each bucket with those before it, `look_back` in all."""
    until = np.concatenate([np.zeros(look_back), np.cumsum(sums)])
    return np.asarray(until[look_back:] - until[:-look_back])


def _percentiles(
    values: Array, bucket: Array, n_buckets: int, look_back: int, ranks: Sequence[float]
) -> Array:
    """Percentiles in each bucket, shape (ranks, buckets). `bucket` is in rising order."""
    found = np.full((len(ranks), n_buckets), np.nan)
    ends = np.arange(n_buckets)
    first = np.searchsorted(bucket, ends - look_back + 1)
    last = np.searchsorted(bucket, ends, side="right")
    for index in np.flatnonzero(last > first):
        part = values[first[index] : last[index]]
        found[:, index] = nearest_rank(part[~np.isnan(part)], ranks)
    return found
