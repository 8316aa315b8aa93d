"""Panels over time: each draws a row of `CHARTS`."""

from __future__ import annotations

from dataclasses import replace

from mlxdeck.telemetry.analyze.scatter import Scatter
from mlxdeck.telemetry.analyze.stats import Window
from mlxdeck.telemetry.analyze.time_series import TimeSeries, View
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.panels.panel import Moment
from mlxdeck.tui.present.charts import CHARTS
from mlxdeck.tui.present.moments import marks, ticks
from mlxdeck.tui.present.view_model import nothing_in
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.line_chart import LineChart, Picture
from mlxdeck.tui.widgets.scale import Axis
from mlxdeck.tui.widgets.time_axis import TimeAxis

MAX_KEPT = 12


class ChartPanel:
    """A chart, with the series that it has drawn: an update computes only what changed."""

    while_hidden = False

    def __init__(self, ctx: Context, name: str, axis: Axis, threshold: float | None = None) -> None:
        """`threshold` is a value that is drawn as a line across."""
        self._ctx = ctx
        self._chart = CHARTS[name]
        self.widget = LineChart(axis, name, id=name)
        self.widget.threshold = threshold
        self._kept: dict[tuple[int, bool], tuple[TimeSeries, Scatter]] = {}
        """By the number of buckets, and whether it is filtered: the unfiltered one stays."""

    def advance(self, moment: Moment) -> bool:
        """Some buckets more."""
        series, scatter = self._kept_now()
        wanted = self._wanted(moment)
        if not series.advance(*wanted):
            return False
        if not self._chart.has_dots:
            return True
        # Dots that have changed are counted in one turn, and drawn in the next.
        before = scatter.version
        scatter.look(*wanted)
        return scatter.version == before

    def _wanted(self, moment: Moment) -> tuple[Store, Window, float, int, View]:
        ctx, n_buckets = self._ctx, self.widget.n_buckets
        return ctx.store, ctx.window, moment.now_s, n_buckets, ctx.view

    def show(self, moment: Moment) -> None:
        """Draw the window."""
        ctx, chart = self._ctx, self.widget
        n_buckets, filtered = chart.n_buckets, bool(ctx.listing.text)
        series, scatter = self._kept_now()
        wanted = self._wanted(moment)
        made = series.series(*wanted)
        if self._chart.has_dots:
            scatter.look(*wanted)
        drawn = self._chart.draw(made, moment.total, scatter)
        empty = not moment.total.n_requests
        where = ctx.store, ctx.window, moment.now_s
        hint = nothing_in(*where, filtered=filtered, n_listed=len(moment.rows)) if empty else ""
        end_ts = made.start_ts + made.bucket_s * n_buckets
        times = TimeAxis(
            made.start_ts,
            end_ts,
            ticks(ctx, moment.now_s, moment.axis_cells, end_ts),
            marks(ctx.store, made.start_ts, moment.now_s),
        )
        picture = Picture(times, n_buckets, hint=hint, **drawn._asdict())
        dots = (ctx.view.key, scatter.version, drawn.ends, drawn.cap)
        version = (times.placed(n_buckets), dots, hint)
        told = (each.tobytes() for each in picture.figures)
        chart.show(replace(picture, version=(*version, *told)))
        chart.tell_title(self._chart.title(moment.total))

    def _kept_now(self) -> tuple[TimeSeries, Scatter]:
        """What was drawn last of the size and the filter that are in force."""
        n_buckets = self.widget.n_buckets
        self.widget.look_back = max(1, n_buckets // self._chart.look_back)
        key = (n_buckets, bool(self._ctx.listing.text))
        if key not in self._kept:
            if len(self._kept) > MAX_KEPT:
                # Of sizes that the window had once.
                self._kept.clear()
            self._kept[key] = TimeSeries(self.widget.look_back, self._chart.ranked), Scatter()
        return self._kept[key]


def latency(ctx: Context, name: str) -> ChartPanel:
    """How long answers took."""
    limit = ctx.alarm.limits.latency_p95_s
    panel = ChartPanel(ctx, name, Axis(fmt.tick, fmt.duration, of_time=True), limit)
    if ctx.ways.log_scale:
        panel.widget.toggle_log()
    return panel


def hits(ctx: Context, name: str) -> ChartPanel:
    """How much of the prompts came from a cache."""
    return ChartPanel(ctx, name, Axis(fmt.percent, fmt.percent, 1.0), ctx.alarm.limits.hit_rate)


def throughput(ctx: Context, name: str) -> ChartPanel:
    """Tokens a second, read and written."""
    return ChartPanel(ctx, name, Axis(fmt.rate, fmt.rate))
