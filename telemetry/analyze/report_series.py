"""A period in equal steps, for the charts of a report. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.report import Period
from mlxdeck.telemetry.analyze.stats import Array, hit_tokens, judged_tokens, nearest_rank
from mlxdeck.telemetry.schema.figures import CANCELLED, ERROR, OK
from mlxdeck.telemetry.store.store import Store

MAX_STEPS = 60
STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class ReportSeries:
    """One value a step of each."""

    begin_ts: float
    step_s: float
    requests: list[int]
    answered: list[int]
    cancelled: list[int]
    errors: list[int]
    known_tokens: list[int]
    """Prompt tokens from caches."""
    computed_tokens: list[int]
    """The others, where it is known how many were cached."""
    p50_s: list[float]
    """Of whole requests that succeeded; NaN where there was none."""
    p95_s: list[float]


def step_of(length_s: float) -> float:
    """The shortest step by which so many seconds have at most `MAX_STEPS`."""
    found = next((step for step in STEPS_S if length_s / step <= MAX_STEPS - 1), None)
    return float(found or 86_400 * math.ceil(length_s / 86_400 / (MAX_STEPS - 1)))


def series(store: Store, rows: Array, period: Period) -> ReportSeries:
    """Requests by the step in which they ended; steps begin at round times."""
    ends = store.column("end_ts")[rows]
    # A period may be far longer than what is recorded in it.
    first_ts, last_ts = (
        (float(ends.min()), float(ends.max())) if len(ends) else (period.from_ts, period.from_ts)
    )
    step_s = step_of(last_ts - first_ts)
    begin_ts = first_ts // step_s * step_s
    n = int((last_ts - begin_ts) // step_s) + 1
    places = ((ends - begin_ts) // step_s).astype(np.int64)
    exact, prefix = hit_tokens(store, rows)
    known = exact.astype(np.int64) + prefix
    judged = judged_tokens(store, rows).astype(np.int64)
    outcome, duration_s = store.column("outcome")[rows], store.column("duration_s")[rows]
    good = (outcome == OK) & ~np.isnan(duration_s)
    ranks = [nearest_rank(duration_s[good & (places == place)], (50, 95)) for place in range(n)]

    def sums(weights: Array) -> list[int]:
        return [int(each) for each in np.bincount(places, weights, n).tolist()]

    return ReportSeries(
        begin_ts=begin_ts,
        step_s=step_s,
        requests=sums(np.ones(len(rows))),
        answered=sums(outcome == OK),
        cancelled=sums(outcome == CANCELLED),
        errors=sums(outcome == ERROR),
        known_tokens=sums(known),
        computed_tokens=sums(np.maximum(judged - known, 0)),
        p50_s=[p50 for p50, _ in ranks],
        p95_s=[p95 for _, p95 in ranks],
    )
