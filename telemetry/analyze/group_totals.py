"""Totals of requests by a number that each of them has: of sessions, of agents. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.stats import HitRate, hit_tokens
from mlxdeck.telemetry.analyze.token_flow import judged_tokens
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import ERROR
from mlxdeck.telemetry.store.store import Store

Rows = np.ndarray[Any, np.dtype[Any]]
NOTHING_KNOWN = HitRate(math.nan, math.nan)
_SUMS = (
    *("n_requests", "n_errors", "n_misses", "n_tool_calls", "n_failed_results"),
    *("input_tokens", "output_tokens", "judged", "exact", "prefix", "busy_s"),
)


_NO_MISSES = ("", "disabled", "bypassed")
"""Where nothing was missed, or no cache was asked."""


def missed(store: Store, rows: Rows) -> Rows:
    """Which requests had to read what a cache might have known."""
    reasons = store.column("miss_reason")[rows]
    return np.asarray(~np.isin(reasons, [store.strings.number(name) for name in _NO_MISSES]))


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """Of some requests."""

    n_requests: int
    n_errors: int
    n_misses: int
    """Requests that had to read what a cache might have known, all of the prompt or a part."""
    n_tool_calls: int
    n_failed_results: int
    """Results of tools that they brought, and that failed."""
    input_tokens: int
    output_tokens: int
    hits: HitRate
    busy_s: float
    """The sum of their durations."""
    first_ts: float
    last_ts: float


class GroupTotals:
    """Requests are added in parts, as adding up a million at once would hold up a key."""

    def __init__(self, n_groups: int) -> None:
        self._sums = {name: np.zeros(n_groups) for name in _SUMS}
        self.first_ts = np.full(n_groups, np.inf)
        self.first_rows = np.full(n_groups, -1)
        """The oldest request of each."""
        self.last_ts = np.full(n_groups, -np.inf)

    def add(self, store: Store, rows: Rows, groups: Rows, as_of_ts: float) -> None:
        """Add requests, each to its group. Of one that ended later, only its start counts."""
        later = store.later(rows, as_of_ts)
        exact, prefix = hit_tokens(store, rows)
        values = {
            "n_errors": store.column("outcome")[rows] == ERROR,
            "n_misses": missed(store, rows),
            "judged": judged_tokens(store, rows),
            "exact": exact,
            "prefix": prefix,
            "busy_s": np.nan_to_num(store.column("duration_s")[rows]),
        }
        for name in ("n_tool_calls", "input_tokens", "output_tokens"):
            values[name] = summable(store.column(name)[rows])
        for value in values.values():
            value[later] = 0
        # What is known from the start on.
        values["n_failed_results"] = summable(store.column("n_failed_results")[rows])
        n_groups = len(self.first_ts)
        self._sums["n_requests"] += np.bincount(groups, minlength=n_groups)
        for name, value in values.items():
            self._sums[name] += np.bincount(groups, value, n_groups)
        starts = store.column("start_ts")[rows]
        ended = np.where(later, starts, np.fmax(starts, store.column("end_ts")[rows]))
        np.minimum.at(self.first_ts, groups, starts)
        first = starts == self.first_ts[groups]
        self.first_rows[groups[first]] = rows[first]
        np.maximum.at(self.last_ts, groups, ended)

    def sums(self, name: str) -> Rows:
        """A figure of all groups; of times, the length from the first to the last."""
        if name == "length_s":
            return np.asarray(self.last_ts - self.first_ts)
        return self._sums[name]

    def of(self, group: int) -> RequestTotals:
        """The totals of one group."""
        sums = {name: float(values[group]) for name, values in self._sums.items()}
        judged, exact, prefix = sums.pop("judged"), sums.pop("exact"), sums.pop("prefix")
        busy_s = sums.pop("busy_s")
        return RequestTotals(
            **{name: int(value) for name, value in sums.items()},
            hits=HitRate(exact / judged, prefix / judged) if judged else NOTHING_KNOWN,
            busy_s=busy_s,
            first_ts=float(self.first_ts[group]),
            last_ts=float(self.last_ts[group]),
        )
