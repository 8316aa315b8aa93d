"""What the charts of the dashboard draw: pure, and tested without Textual.

A row in `CHARTS` is a chart; its name is that of its panel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlxdeck.telemetry.analyze.scatter import KINDS, Scatter
from mlxdeck.telemetry.analyze.stats import Summary
from mlxdeck.telemetry.analyze.time_series import Series
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import OK
from mlxdeck.telemetry.store.store import Store
from mlxdeck.telemetry.store.time_index import Rows
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.line_chart import LegendItem
from mlxdeck.tui.widgets.plot import LINE_MARKS, DotKind, PlotArea, PlotDots, PlotLine
from mlxdeck.tui.widgets.scale import Scale

Values = np.ndarray[Any, np.dtype[Any]]
GAP = 32
"""A line goes on over a gap of so small a part of the window; a longer one is empty."""
FAR = 3.0
"""Latencies so many times over P99 don't make the scale; they are drawn at its top."""
ABOVE = 1.5
NO_ANSWER_S = 1e9
"""Less than any answer takes."""
MIN_FAR = 100
"""Requests below which every dot is in its place."""
DOT_KINDS = (
    DotKind(KINDS[0], "●e", "good"),
    DotKind(KINDS[1], "◐p", "calm"),
    DotKind(KINDS[2], "○m", "muted"),
    DotKind(KINDS[3], "✗x", "bad"),
    DotKind(KINDS[4], "◇-", "warn"),
)
_ERROR_KIND = 3


class Drawn(NamedTuple):
    """What is drawn of a window, without its time axis."""

    legend: Sequence[LegendItem]
    lines: Sequence[PlotLine] = ()
    areas: Sequence[PlotArea] = ()
    dots: PlotDots | None = None
    ends: tuple[float, float] = (float("nan"), float("nan"))
    cap: float = float("nan")


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart of the dashboard."""

    title: Callable[[Summary], str]
    """The text above it."""
    draw: Callable[[Series, Summary, Scatter], Drawn]
    weights: Callable[[Store, Rows], Values]
    """How much each request has to do with the chart; NaN for not at all."""
    look_back: int = 8
    """Each value takes in what ended in such a part of the window before it."""
    ranked: tuple[str, ...] = ()
    """Columns whose percentiles it draws."""
    has_dots: bool = False


def stands_out(chart: str, store: Store, rows: Rows) -> int:
    """Of some requests the one that explains a chart best; -1 if none does."""
    if not len(rows):
        return -1
    weights = CHARTS[chart].weights(store, rows)
    return -1 if np.isnan(weights).all() else int(rows[int(np.nanargmax(weights))])


def joined(active: Values) -> Values:
    """The buckets in which something happened, and short gaps between them."""
    shown, places = active.copy(), np.flatnonzero(active)
    longest = max(1, len(active) // GAP)
    for place, gap in zip(places.tolist(), (np.diff(places) - 1).tolist(), strict=False):
        if 0 < gap <= longest:
            shown[place + 1 : place + 1 + gap] = True
    return shown


def _where(shown: Values, values: Values) -> Values:
    return np.where(shown, values, np.nan)


def _latency(drawn: Series, total: Summary, scatter: Scatter) -> Drawn:
    shown = joined(drawn.n > 0)
    lines = [
        PlotLine("P50", _where(shown, drawn.durations[0]), "plain"),
        PlotLine("P95", _where(shown, drawn.durations[1]), "warn"),
    ]
    columns, (_, highest) = scatter.columns, scatter.ends
    found = (total.duration.p50, total.duration.p95)
    legend = [
        *_line_items(lines, [fmt.duration(value) for value in found], fmt.duration),
        *(
            LegendItem(kind.mark, kind.ink, kind.label, fmt.count(n), _count_at(columns[at]))
            for at, kind in enumerate(DOT_KINDS)
            if (n := int(columns[at].sum()))
        ),
    ]
    p99_s = total.duration.p99
    is_far = columns.sum() >= MIN_FAR and highest > FAR * p99_s
    cap = p99_s * ABOVE if is_far else float("nan")
    dots = PlotDots(DOT_KINDS, columns, lambda scale: _on(scatter, scale), _ERROR_KIND)
    return Drawn(legend, lines, dots=dots, ends=scatter.ends, cap=cap)


def _on(scatter: Scatter, scale: Scale) -> Values:
    top = scale.n_rows - 1
    return scatter.cells(scale, scale.n_rows, lambda values: scale.rows(values, top))


def _count_at(counts: Values) -> Callable[[int], str]:
    return lambda column: fmt.count(int(counts[column]))


def _value_at(values: Values, text: Callable[[float], str]) -> Callable[[int], str]:
    return lambda column: text(float(values[column]))


def _line_items(
    lines: Sequence[PlotLine], totals: Sequence[str], text: Callable[[float], str]
) -> list[LegendItem]:
    return [
        LegendItem(mark, line.ink, line.label, total, _value_at(line.values, text))
        for mark, line, total in zip(LINE_MARKS, lines, totals, strict=False)
    ]


def _duration(store: Store, rows: Rows) -> Values:
    """Of answers; other dots explain a moment only where there is no answer."""
    seconds = np.asarray(store.column("duration_s")[rows], np.float64)
    return np.where(store.column("outcome")[rows] == OK, seconds, seconds - NO_ANSWER_S)


def _hits(drawn: Series, total: Summary, scatter: Scatter) -> Drawn:
    del scatter
    shown, hits = joined(drawn.n > 0), total.hits
    near_exact = drawn.exact - drawn.slower_exact
    near_prefix = drawn.exact + drawn.prefix - drawn.slower - near_exact
    areas = [
        PlotArea("exact", _where(shown, near_exact), "good", "▓#"),
        PlotArea("prefix", _where(shown, near_prefix), "calm", "█+"),
        PlotArea("not in memory", _where(shown, drawn.slower), "warn", "▒~"),
        PlotArea("computed", _where(shown, 1 - drawn.exact - drawn.prefix), "muted", "░."),
    ]
    told = [
        (areas[0], hits.exact, drawn.exact),
        (areas[1], hits.prefix, drawn.prefix),
        (areas[3], 1 - hits.total, areas[3].values),
        (areas[2], hits.slower, drawn.slower),
    ]
    if hits.slower > 0:
        # What is drawn goes before what is not, as a narrow legend ends early.
        told.sort(key=lambda each: each[1] == 0)
    legend = [
        LegendItem(area.fill, area.ink, area.label, fmt.percent(share), _value_at(values, _share))
        for area, share, values in told
        if area is not areas[2] or hits.slower > 0
    ]
    return Drawn(legend, areas=areas)


def _share(value: float) -> str:
    return fmt.percent(value)


def _computed(store: Store, rows: Rows) -> Values:
    read, cached = (store.column(name)[rows] for name in ("input_tokens", "cached_tokens"))
    return np.asarray(summable(read) - summable(cached), np.float64)


def _tokens(drawn: Series, total: Summary, scatter: Scatter) -> Drawn:
    del scatter
    shown = joined(drawn.active)
    lines = [
        PlotLine("written", _where(shown, drawn.output_tokens), "good"),
        PlotLine("read", _where(shown, drawn.computed_tokens), "calm"),
    ]
    sums = [f"{fmt.count(n)} in all" for n in (total.written_tokens, total.computed_tokens)]
    values = np.concatenate([line.values for line in lines])
    known = values[values > 0]
    ends = (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)
    return Drawn(_line_items(lines, sums, fmt.rate), lines, ends=ends)


def _written(store: Store, rows: Rows) -> Values:
    return np.asarray(store.column("output_tokens")[rows], np.float64)


def _latency_title(total: Summary) -> str:
    n = fmt.counted(total.duration.n, "answer")
    return f"latency of {n}" + (
        f"  P99 {fmt.duration(total.duration.p99)}" if total.duration.n else ""
    )


CHARTS: Mapping[str, Chart] = {
    "latency": Chart(_latency_title, _latency, _duration, ranked=("duration_s",), has_dots=True),
    "hits": Chart(
        lambda total: f"tokens from cache: {fmt.percent(total.hits.total)}", _hits, _computed
    ),
    "throughput": Chart(lambda _: "tokens a second", _tokens, _written, look_back=24),
}
