"""What the charts of the dashboard draw: pure, and tested without Textual.

A row in `CHARTS` is a chart; its name is that of its panel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.stats import Summary
from mlxdeck.telemetry.analyze.time_series import Series
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import OK
from mlxdeck.telemetry.store.store import Store
from mlxdeck.telemetry.store.time_index import Rows
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.plot import PlotLine, Tone

Drawn = tuple[list[PlotLine], list[str]]
"""Lines, and the figure of each in the legend."""
Values = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart of the dashboard."""

    title: Callable[[Summary], str]
    """The text above it."""
    lines: Callable[[Series, Summary], Drawn]
    weights: Callable[[Store, Rows], Values]
    """How much each request has to do with the chart; NaN for not at all."""
    ranked: tuple[str, ...] = ()
    """Columns whose percentiles it draws."""


def stands_out(chart: str, store: Store, rows: Rows) -> int:
    """Of some requests the one that explains a chart best; -1 if none does."""
    weights = CHARTS[chart].weights(store, rows)
    if not len(rows) or np.isnan(weights).all():
        return -1
    return int(rows[int(np.nanargmax(weights))])


def _latency_lines(drawn: Series, total: Summary) -> Drawn:
    tones: tuple[Tone, ...] = ("good", "warn", "bad")
    names = ("P50", "P95", "P99")
    lines = [
        PlotLine(name, row, tone)
        for name, row, tone in zip(names, drawn.durations, tones, strict=True)
    ]
    found = (total.duration.p50, total.duration.p95, total.duration.p99)
    return lines, [fmt.duration(value) for value in found]


def _latency(store: Store, rows: Rows) -> Values:
    """As the chart does, which is of answers."""
    is_answer = store.column("outcome")[rows] == OK
    return np.where(is_answer, store.column("duration_s")[rows], np.nan)


def _hit_lines(drawn: Series, total: Summary) -> Drawn:
    lines = [PlotLine("exact", drawn.exact, "good"), PlotLine("prefix", drawn.prefix, "calm")]
    shares = [total.hits.exact, total.hits.prefix]
    if total.hits.slower > 0:
        lines.append(PlotLine("not in memory", drawn.slower, "warn"))
        shares.append(total.hits.slower)
    return lines, [fmt.percent(share) for share in shares]


def _computed(store: Store, rows: Rows) -> Values:
    read, cached = (store.column(name)[rows] for name in ("input_tokens", "cached_tokens"))
    return np.asarray(summable(read) - summable(cached), np.float64)


def _token_lines(drawn: Series, total: Summary) -> Drawn:
    written, read = drawn.output_tokens, drawn.computed_tokens
    lines = [PlotLine("written", written, "good"), PlotLine("read", read, "calm")]
    sums = (total.written_tokens, total.computed_tokens)
    return lines, [f"{fmt.count(n)} in all" for n in sums]


def _written(store: Store, rows: Rows) -> Values:
    return np.asarray(store.column("output_tokens")[rows], np.float64)


CHARTS: Mapping[str, Chart] = {
    "latency": Chart(
        lambda total: f"latency of {fmt.counted(total.duration.n, 'answer')}",
        _latency_lines,
        _latency,
        ("duration_s",),
    ),
    "hits": Chart(
        lambda total: f"tokens from cache: {fmt.percent(total.hits.total)}", _hit_lines, _computed
    ),
    "throughput": Chart(lambda _: "tokens a second", _token_lines, _written),
}
