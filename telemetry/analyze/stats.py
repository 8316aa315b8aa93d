"""Arithmetic over a store: windows, exact percentiles, token-weighted hit rates.

Pure functions of a store and a time. Percentiles are by nearest rank: each is the real duration of
some request. Hit rates are weighted by tokens: a cached system prompt of 18,000 tokens counts more
than a cached "hello". Exact and prefix hits never overlap, so they add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.token_flow import at_end, while_running
from mlxdeck.telemetry.analyze.token_flow import judged_tokens as judged_tokens
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import ERROR, EXACT, OK
from mlxdeck.telemetry.store.store import Store

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
    slower: float = 0.0
    """What of both came from a disk or another machine, not from memory."""

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
    ttft_p50: float
    """In seconds, NaN if there was no first token."""
    hits: HitRate
    input_tokens: int
    output_tokens: int
    n_tool_calls: int
    written_tokens: int = 0
    """Tokens that were written in the window, whenever their requests ended."""
    computed_tokens: int = 0
    """Prompt tokens that were read in it, without those from a cache."""


IN_MEMORY = ("", "ram", "flight")
"""Tiers that are no slower than memory; `flight` is an answer that was just being written."""


def nearest_rank(values: Array, ranks: Sequence[float] = RANKS) -> list[float]:
    """Percentiles of `values` by nearest rank; NaN for each if there are none."""
    if not len(values):
        return [float("nan")] * len(ranks)
    places = [max(0, int(np.ceil(rank / 100 * len(values))) - 1) for rank in ranks]
    ordered = np.partition(values, sorted(set(places)))
    return [float(ordered[place]) for place in places]


def trailing_ranks(values: Array, edges: Array, look_back: int, ranks: Sequence[float]) -> Array:
    """Percentiles by nearest rank over each run of `look_back` consecutive buckets.

    `values` are 32-bit numbers, ordered by bucket. `edges` are the start of each bucket, and the
    end of the last one. Shape (ranks, buckets - look_back + 1); NaN where there are no values.

    The bits of each result are found from the highest down, for all ranks and places at once. A bit
    is set if fewer values than the rank's place are less than the number with that bit.
    """
    firsts = np.arange(len(edges) - look_back)
    counts = edges[look_back:] - edges[:-look_back]
    places = np.ceil(np.outer(ranks, counts) / 100)
    buckets = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    sought = buckets << 32 | _sortable(values)
    for begin, end in pairwise(edges):
        # Twice as fast as all of it at once.
        sought[begin:end].sort()
    within = firsts[:, None] + np.arange(look_back)
    found = np.zeros((len(ranks), len(firsts)), np.int64)
    for bit in range(31, -1, -1):
        tried = found | 1 << bit
        until = np.searchsorted(sought, within << 32 | tried[..., None])
        n_less = (until - edges[within]).sum(axis=-1)
        found = np.where(n_less < places, tried, found)
    return np.where(counts > 0, _from_sortable(found), np.nan)


_SIGN = 1 << 31


def _sortable(values: Array) -> Array:
    """The bits of 32-bit floats as whole numbers that are in the same order."""
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, ~bits, bits + _SIGN)


def _from_sortable(numbers: Array) -> Array:
    bits = np.where(numbers < _SIGN, ~numbers, numbers - _SIGN)
    return bits.astype(np.int32).view(np.float32)


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


class SummarySums:
    """The figures of a window, added up in parts."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._known: dict[str, list[Array]] = {"duration_s": [], "ttft_s": []}
        """Seconds of answers, for percentiles."""

    def add(self, store: Store, rows: Array) -> None:
        """More requests."""
        outcome, judged = store.column("outcome")[rows], judged_tokens(store, rows)
        exact, prefix = hit_tokens(store, rows)
        told = {
            "errors": outcome == ERROR,
            "judged": judged,
            "exact": exact,
            "prefix": prefix,
            "slower": np.where(slower_tiers(store, rows), exact + prefix, 0),
            **at_end(store, rows, judged),
        }
        for name in _SUMMED:
            told[name] = summable(store.column(name)[rows])
        self._sums["n"] += len(rows)
        for name, values in told.items():
            self._sums[name] += int(values.sum(dtype=np.int64))
        good = rows[outcome == OK]
        for name, parts in self._known.items():
            values = store.column(name)[good]
            parts.append(values[~np.isnan(values)])

    def found(self, store: Store, window: Window, now_s: float, mask: Array | None) -> Summary:
        """The figures of all that were added."""
        sums = self._sums
        points = store.progress.between(*bounds(store, window, now_s))
        running = while_running(store, points, mask)
        durations, ttfts = map(self._joined, self._known)
        return Summary(
            n_requests=sums["n"],
            n_errors=sums["errors"],
            duration=percentiles(durations),
            ttft_p50=nearest_rank(ttfts, RANKS[:1])[0],
            hits=_shares(*(sums[name] for name in ("judged", "exact", "prefix", "slower"))),
            input_tokens=sums["input_tokens"],
            output_tokens=sums["output_tokens"],
            n_tool_calls=sums["n_tool_calls"],
            written_tokens=sums["output"] + int(running["output"].sum(dtype=np.int64)),
            computed_tokens=sums["computed"] + int(running["computed"].sum(dtype=np.int64)),
        )

    def _joined(self, name: str) -> Array:
        parts = self._known[name]
        if len(parts) != 1:
            parts[:] = [np.concatenate(parts) if parts else np.zeros(0, np.float32)]
        return parts[0]


_SUMMED = ("input_tokens", "output_tokens", "n_tool_calls")


def summary(store: Store, window: Window, now_s: float, mask: Array | None = None) -> Summary:
    """The figures of a window, over all requests or those of a mask."""
    rows = store.by_end.between(*bounds(store, window, now_s))
    sums = SummarySums()
    sums.add(store, rows if mask is None else rows[mask[rows]])
    return sums.found(store, window, now_s, mask)


def hit_rate(store: Store, rows: Array) -> HitRate:
    """How much of the prompts of some requests was known."""
    exact, prefix = hit_tokens(store, rows)
    slower = np.where(slower_tiers(store, rows), exact + prefix, 0)
    parts = (judged_tokens(store, rows), exact, prefix, slower)
    return _shares(*(int(part.sum(dtype=np.int64)) for part in parts))


def _shares(judged: int, exact: int, prefix: int, slower: int) -> HitRate:
    if not judged:
        return HitRate(float("nan"), float("nan"))
    return HitRate(exact / judged, prefix / judged, slower / judged)


def hit_tokens(store: Store, rows: Array) -> tuple[Array, Array]:
    """Prompt tokens per row that came with a whole answer, and from cached states."""
    whole = store.column("cache")[rows] == EXACT
    exact = np.where(whole, summable(store.column("input_tokens")[rows]), 0)
    prefix = np.where(whole, 0, summable(store.column("cached_tokens")[rows]))
    return exact, prefix


def slower_tiers(store: Store, rows: Array) -> Array:
    """Whether the cached part of a row's prompt was outside memory, for example on disk."""
    near = [store.strings.number(name) for name in IN_MEMORY]
    far = np.ones(len(store.strings), bool)
    far[near] = False
    return np.asarray(far[store.column("tier")[rows]])
