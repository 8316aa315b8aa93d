"""Two periods compared: a difference counts only if a bootstrap says that chance doesn't make it.

A bootstrap draws each period's requests again, with replacement, and looks at how far a figure
moves. Requests of a session are not independent: figures of tokens are drawn in runs of consecutive
requests. Pure, and the same for the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlxdeck.telemetry.analyze.report import TIMES, Period, rows_of
from mlxdeck.telemetry.analyze.stats import Array, hit_tokens, judged_tokens, nearest_rank
from mlxdeck.telemetry.query.filters import Filter
from mlxdeck.telemetry.schema.figures import ERROR, OK
from mlxdeck.telemetry.store.store import Store

RANKS = (50, 95)
N_FIGURES = len(TIMES) * len(RANKS) + 2
LEVEL = 0.05 / N_FIGURES
"""So that all figures together raise a false alarm in a twentieth of comparisons (Bonferroni)."""
N_DRAWS = 10_000
SEED = 17
MIN_BEYOND = 5
"""Values on the far side of a rank; with fewer, an interval says nothing."""
MIN_CHANGE = 0.05
"""Of the figure before: with many requests, also what nobody notices is no chance."""
MIN_CHANGE_S = 0.01
"""Of a time: nobody waits for less."""
MAX_RUNS = 500
"""Runs of consecutive requests that are drawn as one."""

Verdict = Literal["worse", "better", "same", "unknown"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure in both periods."""

    name: str
    """`duration`, `ttft`, ..., `hit_rate` or `error_rate`."""
    rank: int
    """Percentile of a time; 0 for a rate."""
    before: float
    """In seconds, or a share; NaN if there is none."""
    now: float
    low: float
    """Interval of the change; NaN if there are too few values."""
    high: float
    n_before: int
    n_now: int
    verdict: Verdict
    """`same` if no change is shown, `unknown` if there are too few values."""

    @property
    def change(self) -> float:
        """From before to now."""
        return self.now - self.before


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures of two periods."""

    before: Period
    now: Period
    level: float
    """Of each interval, as a share: 0.995 for 99.5 %."""
    differences: list[Difference]

    @property
    def worse(self) -> list[Difference]:
        """What has become worse, by the test."""
        return [each for each in self.differences if each.verdict == "worse"]


def compare(
    before: tuple[Store, Period],
    now: tuple[Store, Period],
    session: str = "",
    where: Filter | None = None,
) -> Comparison:
    """Every figure of two periods, which may be in different stores."""
    chance = np.random.default_rng(SEED)
    sides = [(store, rows_of(store, period, session, where)) for store, period in (before, now)]
    found = [*_times(sides, chance), _hit_rate(sides, chance), _error_rate(sides, chance)]
    return Comparison(before[1], now[1], 1 - LEVEL, found)


_Sides = list[tuple[Store, Array]]


def _times(sides: _Sides, chance: np.random.Generator) -> Iterator[Difference]:
    for name in TIMES:
        values = []
        for store, rows in sides:
            good = rows[store.column("outcome")[rows] == OK]
            told = store.column(f"{name}_s")[good].astype(np.float64)
            values.append(np.sort(told[~np.isnan(told)]))
        for rank in RANKS:
            old, new = (nearest_rank(each, (rank,))[0] for each in values)
            least = math.ceil(MIN_BEYOND / min(rank / 100, 1 - rank / 100))
            enough = min(map(len, values)) >= least
            drawn = [drawn_quantiles(each, rank, chance) for each in values] if enough else []
            yield _difference((name, rank), (old, new), (len(values[0]), len(values[1])), drawn)


def drawn_quantiles(ordered: Array, rank: float, chance: np.random.Generator) -> Array:
    """Quantiles by nearest rank of bootstrap samples of sorted values, without drawing samples.

    The place of the k-th smallest of n uniform draws is distributed as Beta(k, n - k + 1).
    """
    n = len(ordered)
    k = max(1, math.ceil(rank / 100 * n))
    places = chance.beta(k, n - k + 1, N_DRAWS) * n
    return np.asarray(ordered[np.minimum(places.astype(np.int64), n - 1)])


def _hit_rate(sides: _Sides, chance: np.random.Generator) -> Difference:
    parts = []
    for store, rows in sides:
        exact, prefix = hit_tokens(store, rows)
        parts.append(((exact + prefix).astype(np.float64), judged_tokens(store, rows)))
    return _rate("hit_rate", parts, chance, sign=-1)


def _error_rate(sides: _Sides, chance: np.random.Generator) -> Difference:
    parts = []
    for store, rows in sides:
        failed = store.column("outcome")[rows] == ERROR
        parts.append((failed.astype(np.float64), np.ones(len(rows))))
    return _rate("error_rate", parts, chance, sign=1)


def _rate(
    name: str, parts: list[tuple[Array, Array]], chance: np.random.Generator, *, sign: int
) -> Difference:
    """A ratio of sums; `sign` is -1 where less is worse."""
    rates = [float(top.sum() / whole.sum()) if whole.sum() else math.nan for top, whole in parts]
    sizes = (len(parts[0][0]), len(parts[1][0]))
    enough = min(sizes) >= MIN_BEYOND**2 and not any(map(math.isnan, rates))
    drawn = [_drawn_rates(top, whole, chance) for top, whole in parts] if enough else []
    return _difference((name, 0), (rates[0], rates[1]), sizes, drawn, sign)


def _drawn_rates(top: Array, whole: Array, chance: np.random.Generator) -> Array:
    """Ratios of bootstrap samples of runs of consecutive requests."""
    edges = np.linspace(0, len(top), min(len(top), MAX_RUNS) + 1).astype(np.int64)[:-1]
    tops, wholes = np.add.reduceat(top, edges), np.add.reduceat(whole, edges)
    counts = chance.multinomial(len(edges), np.full(len(edges), 1 / len(edges)), N_DRAWS // 5)
    return np.asarray((counts @ tops) / np.maximum(counts @ wholes, 1e-9))


def _difference(
    name: tuple[str, int],
    values: tuple[float, float],
    sizes: tuple[int, int],
    drawn: list[Array],
    sign: int = 1,
) -> Difference:
    before, now = values
    if not drawn:
        return Difference(*name, before, now, math.nan, math.nan, *sizes, verdict="unknown")
    changes = drawn[1] - drawn[0]
    low, high = np.quantile(changes, (LEVEL / 2, 1 - LEVEL / 2)).tolist()
    verdict: Verdict = "same"
    least = max(MIN_CHANGE * abs(before), MIN_CHANGE_S if name[1] else 0.0)
    if (low > 0 or high < 0) and abs(now - before) >= least:
        verdict = "worse" if (now - before) * sign > 0 else "better"
    return Difference(*name, before, now, low, high, *sizes, verdict=verdict)
