"""A day or a week of traffic in figures: totals, percentiles, groups, findings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.finding import ReportFinding
from mlxdeck.telemetry.analyze.findings import findings
from mlxdeck.telemetry.analyze.prices import Money, Prices, money
from mlxdeck.telemetry.analyze.selection import told_ends
from mlxdeck.telemetry.analyze.shown_names import ShownNames
from mlxdeck.telemetry.analyze.stats import (
    Array,
    HitRate,
    Percentiles,
    hit_rate,
    hit_tokens,
    judged_tokens,
    percentiles,
)
from mlxdeck.telemetry.analyze.token_costs import Saved, saved, seconds, total
from mlxdeck.telemetry.analyze.usage import TierHits, ToolUses, calls_of, tier_hits, tool_uses
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.query.filters import Filter
from mlxdeck.telemetry.schema.figures import CANCELLED, ERROR, LOST, OK
from mlxdeck.telemetry.store.store import Store

TIMES = ("duration", "ttft", "queue", "prefill", "decode")
"""Figures in seconds that have percentiles, over requests that succeeded."""


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time, both ends included; seconds since 1970."""

    from_ts: float
    until_ts: float


@dataclass(frozen=True, slots=True)
class Group:
    """Requests of one model, session or agent."""

    name: str
    n_requests: int
    n_errors: int
    n_cancelled: int
    input_tokens: int
    judged_tokens: int
    """Prompt tokens of requests of which it is known how many were cached."""
    cached_tokens: int
    """Those of them that were known, also by a whole answer."""
    output_tokens: int
    busy_s: float
    """The sum of durations."""
    duration_p50_s: float
    duration_p95_s: float
    """Both of requests that succeeded."""
    ttft_p50_s: float
    first_ts: float
    last_ts: float


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """Totals of the requests that ended in a period."""

    period: Period
    n_requests: int
    n_ok: int
    n_errors: int
    n_cancelled: int
    n_lost: int
    """Requests that were lost in the period, as their server ended without a word."""
    n_open: int
    """Requests that began in the period and run still."""
    errors: dict[str, int]
    """How many of each type."""
    input_tokens: int
    output_tokens: int
    n_tool_calls: int
    """Also those that could not be read."""
    busy_s: float
    """The sum of durations."""
    times: dict[str, Percentiles]
    """By the names in `TIMES`, in seconds."""
    hits: HitRate
    tiers: dict[str, TierHits]
    misses: dict[str, int]
    """Requests by the reason why tokens were not known."""
    saved: Saved
    money: Money | None


@dataclass(frozen=True, slots=True)
class Report(ReportFigures):
    """The same by model, session, agent and tool; and what is wrong."""

    models: list[Group]
    sessions: list[Group]
    agents: list[Group]
    tools: dict[str, ToolUses]
    findings: list[ReportFinding]


def report(
    store: Store,
    period: Period,
    *,
    session: str = "",
    where: Filter | None = None,
    prices: Prices | None = None,
    names: ShownNames | None = None,
) -> Report:
    """The requests that ended in a period, of all sessions or of one, that match a filter.

    `session` is the beginning of its name.
    """
    names = names or ShownNames()
    rows = rows_of(store, period, session, where)
    totals = figures(store, period, session=session, where=where, prices=prices)
    return Report(
        **{field.name: getattr(totals, field.name) for field in fields(totals)},
        models=groups(store, rows, _model_numbers(store, rows), names.model),
        sessions=groups(store, rows, store.column("session")[rows], names.session),
        agents=groups(store, rows, store.column("agent")[rows], names.agent),
        tools={names.tool(name): uses for name, uses in tool_uses(store, rows).items()},
        findings=findings(store, rows, names, lost_rows(store, period, session, where)),
    )


def figures(
    store: Store,
    period: Period,
    *,
    session: str = "",
    where: Filter | None = None,
    prices: Prices | None = None,
) -> ReportFigures:
    """The totals alone."""
    rows = rows_of(store, period, session, where)
    outcome = store.column("outcome")[rows]
    good = rows[outcome == OK]
    saved_by_caches = saved(store, rows, period.until_ts)
    return ReportFigures(
        period=period,
        n_requests=len(rows),
        n_ok=len(good),
        n_errors=int((outcome == ERROR).sum()),
        n_cancelled=int((outcome == CANCELLED).sum()),
        n_lost=len(lost_rows(store, period, session, where)),
        n_open=len(open_rows(store, period, session, where)),
        errors=_counted(store, "error_type", rows[outcome == ERROR]),
        input_tokens=total(store, "input_tokens", rows),
        output_tokens=total(store, "output_tokens", rows),
        n_tool_calls=int(np.count_nonzero(calls_of(store, rows))),
        busy_s=seconds(store, "duration_s", rows),
        times={name: percentiles(store.column(f"{name}_s")[good]) for name in TIMES},
        hits=hit_rate(store, rows),
        tiers=tier_hits(store, rows),
        misses=_counted(store, "miss_reason", rows[store.column("miss_reason")[rows] > 0]),
        saved=saved_by_caches,
        money=_money(store, good, prices, saved_by_caches) if prices else None,
    )


def _money(store: Store, good: Array, prices: Prices, saved_by_caches: Saved) -> Money:
    """What those that succeeded cost elsewhere: nobody charges for the others."""
    n_input, n_output = (total(store, f"{name}_tokens", good) for name in ("input", "output"))
    return money(prices, n_input, saved_by_caches.tokens, n_output)


def rows_of(store: Store, period: Period, session: str = "", where: Filter | None = None) -> Array:
    """The requests that ended in a period, oldest end first; of a session, and of a filter."""
    rows = told_ends(store, store.by_end.between(period.from_ts, period.until_ts))
    return _chosen(store, rows, period, session, where)


def lost_rows(
    store: Store, period: Period, session: str = "", where: Filter | None = None
) -> Array:
    """The requests that were lost in a period, with their servers."""
    rows = store.by_end.between(period.from_ts, period.until_ts)
    rows = rows[store.column("outcome")[rows] == LOST]
    return _chosen(store, rows, period, session, where)


def open_rows(
    store: Store, period: Period, session: str = "", where: Filter | None = None
) -> Array:
    """The requests that began in a period, and run still."""
    rows = store.by_start.between(period.from_ts, period.until_ts)
    rows = rows[np.isnan(store.column("end_ts")[rows])]
    return _chosen(store, rows, period, session, where)


def _chosen(store: Store, rows: Array, period: Period, session: str, where: Filter | None) -> Array:
    if session:
        names = store.strings.texts(store.column("session")[rows])
        rows = rows[np.fromiter((name.startswith(session) for name in names), bool, len(rows))]
    if where is None or not len(rows):
        # Mostly none are lost or run, and a mask is of all that is recorded.
        return rows
    return rows[where.mask(store, period.until_ts)[rows]]


def _counted(store: Store, name: str, rows: Array) -> dict[str, int]:
    numbers, counts = np.unique(store.column(name)[rows], return_counts=True)
    found = {
        store.strings[number] or "error": n
        for number, n in zip(numbers.tolist(), counts.tolist(), strict=True)
    }
    return dict(Counter(found).most_common())


def _model_numbers(store: Store, rows: Array) -> Array:
    """The model that answered, or else the one that was asked for."""
    served = store.column("served")[rows]
    return np.where(served > 0, served, store.column("model")[rows])


def groups(store: Store, rows: Array, numbers: Array, label: Callable[[str], str]) -> list[Group]:
    """Rows by a number of a text each, the group with most requests first."""
    if not len(rows):
        return []
    order = np.argsort(numbers, kind="stable")
    rows, numbers = rows[order], numbers[order]
    begins = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))
    places = np.repeat(np.arange(len(begins)), np.diff([*begins, len(rows)]))
    outcome = store.column("outcome")[rows]
    exact, prefix = hit_tokens(store, rows)

    def sums(values: Array) -> list[Any]:
        found: list[Any] = np.add.reduceat(values, begins).tolist()
        return found

    def tokens(name: str) -> list[Any]:
        return sums(summable(store.column(name)[rows]).astype(np.int64))

    def ranked(name: str, rank: int) -> list[Any]:
        values = np.where(outcome == OK, store.column(name)[rows], np.nan)
        return _ranked(values, places, len(begins), rank)

    columns = zip(
        np.diff([*begins, len(rows)]).tolist(),
        sums((outcome == ERROR).astype(np.int64)),
        sums((outcome == CANCELLED).astype(np.int64)),
        tokens("input_tokens"),
        sums(judged_tokens(store, rows).astype(np.int64)),
        sums(exact.astype(np.int64) + prefix),
        tokens("output_tokens"),
        sums(np.nan_to_num(store.column("duration_s")[rows].astype(np.float64))),
        ranked("duration_s", 50),
        ranked("duration_s", 95),
        ranked("ttft_s", 50),
        np.minimum.reduceat(store.column("start_ts")[rows], begins).tolist(),
        np.maximum.reduceat(store.column("end_ts")[rows], begins).tolist(),
        strict=True,
    )
    by_size = sorted(zip(numbers[begins].tolist(), columns, strict=True), key=lambda g: -g[1][0])
    return [Group(label(store.strings[number]), *values) for number, values in by_size]


def _ranked(values: Array, places: Array, n: int, rank: int) -> list[Any]:
    """A percentile of the known values of each group, by nearest rank; NaN of none."""
    known = ~np.isnan(values)
    values, places = values[known], places[known]
    ordered = values[np.lexsort((values, places))]
    counts = np.bincount(places, minlength=n)
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
    at = begins + np.maximum(np.ceil(rank / 100 * counts).astype(np.int64) - 1, 0)
    padded = np.append(ordered, np.nan)
    found: list[Any] = np.where(counts > 0, padded[np.minimum(at, len(ordered))], np.nan).tolist()
    return found
