"""Panels over time: each draws a row of `CHARTS`."""

from __future__ import annotations

from mlxdeck.telemetry.analyze.time_series import TimeSeries
from mlxdeck.tui.panels.panel import Moment
from mlxdeck.tui.present.charts import CHARTS
from mlxdeck.tui.present.view_model import nothing_in, time_axis
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.line_chart import LineChart
from mlxdeck.tui.widgets.plot import Axis

LOOK_BACK = 8
"""Each point of a chart takes in what ended in the eighth of the window before it."""
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
        self._trends: dict[tuple[int, bool], TimeSeries] = {}
        """By the number of buckets, and whether it is filtered: the unfiltered one stays."""

    def show(self, moment: Moment) -> None:
        """Draw the window."""
        window, listing, chart = self._ctx.window, self._ctx.listing, self.widget
        filtered = bool(listing.text)
        look_back = max(1, chart.n_buckets // LOOK_BACK)
        trend = self._kept(chart.n_buckets, look_back, filtered=filtered)
        drawn = trend.series(self._ctx.store, window, moment.now_s, chart.n_buckets, listing.view)
        lines, values = self._chart.lines(drawn, moment.total)
        chart.look_back = look_back
        n_requests = moment.total.n_requests
        hint = "" if n_requests else nothing_in(self._ctx.store, window, filtered=filtered)
        chart.show(lines, time_axis(drawn, window, moment.now_s), values, hint)
        span_s = drawn.bucket_s * look_back
        each = f"  each point: last {fmt.tick(round(span_s, 1))}"
        title = self._chart.title(moment.total)
        chart.border_title = title + (each if chart.n_buckets > 48 else "")

    def _kept(self, n_buckets: int, look_back: int, *, filtered: bool) -> TimeSeries:
        key = (n_buckets, filtered)
        if key not in self._trends:
            if len(self._trends) > MAX_KEPT:
                # Of sizes that the window had once.
                self._trends.clear()
            self._trends[key] = TimeSeries(look_back, self._chart.ranked)
        return self._trends[key]


def latency(ctx: Context, name: str) -> ChartPanel:
    """How long answers took."""
    limit = ctx.alarm.limits.latency_p95_s
    panel = ChartPanel(ctx, name, Axis(fmt.tick, fmt.duration), limit)
    if ctx.ways.log_scale:
        panel.widget.toggle_log()
    return panel


def hits(ctx: Context, name: str) -> ChartPanel:
    """How much of the prompts came from a cache."""
    return ChartPanel(ctx, name, Axis(fmt.percent, fmt.percent, 1.0), ctx.alarm.limits.hit_rate)


def throughput(ctx: Context, name: str) -> ChartPanel:
    """Tokens a second, read and written."""
    return ChartPanel(ctx, name, Axis(fmt.rate, fmt.rate))
