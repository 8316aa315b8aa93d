"""The main screen: key figures, two charts, the requests and the tool calls."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from mlxdeck.telemetry.stats import Series, Summary, Window, series, summary
from mlxdeck.telemetry.store import Store
from mlxdeck.tui import format as fmt
from mlxdeck.tui.view import edges, figures
from mlxdeck.tui.widgets.kpi import KpiStrip
from mlxdeck.tui.widgets.line_chart import Axis, Line, LineChart, Tone
from mlxdeck.tui.widgets.request_table import RequestTable
from mlxdeck.tui.widgets.tool_calls import ToolCallList

EMPTY = """[b]No stream yet[/b]

Nothing has been written to
  [b]{places}[/b]

Start a server in another terminal:
  [b]mlxdeck serve[/b]
or server and dashboard together:
  [b]mlxdeck up[/b]

This screen comes alive with the first event."""

LOOK_BACK = 8
"""Each point of a chart takes in what ended in the eighth of the window before it."""


class DashboardScreen(Screen[None]):
    """Draws what the application hands to `show`; holds no state but the widgets'."""

    BINDINGS = [
        Binding("tab", "app.focus_next", "Next panel", show=False),
        Binding("l", "log", "Log", tooltip="Latency on a linear or a logarithmic scale"),
    ]

    def __init__(self, store: Store, places: list[str]) -> None:
        super().__init__()
        self._store = store
        self._places = places
        self._status = ""

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Static(id="status")
        yield Static(EMPTY.format(places="\n  ".join(self._places)), id="empty")
        with Vertical(id="panels"):
            yield KpiStrip(id="kpis")
            with Horizontal(id="charts"):
                yield LineChart(Axis(fmt.tick), "latency", id="latency")
                yield LineChart(Axis(fmt.percent, top=1.0), "tokens from cache", id="hits")
            with Horizontal(id="lists"):
                yield RequestTable(self._store, id="requests")
                yield ToolCallList(self._store, id="calls")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.query_one(RequestTable).focus()

    def show(self, window: Window, now_s: float, *, with_lists: bool = True) -> None:
        """Draw the store as it is, in a window that ends `now_s`.

        Without the lists, what has come since `now_s` does not show.
        """
        empty = self._store.n_lines == 0
        self.query_one("#empty").display = empty
        self.query_one("#panels").display = not empty
        if empty:
            return
        total = summary(self._store, window, now_s)
        strip = self.query_one(KpiStrip)
        trends = series(self._store, window, now_s, strip.n_buckets)
        strip.show(figures(self._store, total, trends, now_s))
        self._show_latency(total, window, now_s)
        self._show_hits(total, window, now_s)
        if with_lists:
            version = self._store.n_lines
            self.query_one(RequestTable).show(self._store.n, version)
            self.query_one(ToolCallList).show(len(self._store.tool_calls), version)

    def _drawn(self, chart: LineChart, window: Window, now_s: float) -> Series:
        return series(self._store, window, now_s, chart.n_buckets, chart.n_buckets // LOOK_BACK)

    def _show_latency(self, total: Summary, window: Window, now_s: float) -> None:
        chart = self.query_one("#latency", LineChart)
        drawn = self._drawn(chart, window, now_s)
        names = ("P50", "P95", "P99")
        values = (total.duration.p50, total.duration.p95, total.duration.p99)
        tones: tuple[Tone, ...] = ("good", "warn", "bad")
        lines = [
            Line(name, row, tone)
            for name, row, tone in zip(names, drawn.durations, tones, strict=True)
        ]
        chart.border_title = f"latency of {total.duration.n} answers"
        chart.show(
            lines, edges(drawn, window, now_s, LOOK_BACK), [fmt.duration(value) for value in values]
        )

    def _show_hits(self, total: Summary, window: Window, now_s: float) -> None:
        chart = self.query_one("#hits", LineChart)
        drawn = self._drawn(chart, window, now_s)
        lines = [Line("exact", drawn.exact, "good"), Line("prefix", drawn.prefix, "calm")]
        chart.border_title = f"tokens from cache: {fmt.percent(total.hits.total)}"
        shares = [fmt.percent(total.hits.exact), fmt.percent(total.hits.prefix)]
        chart.show(lines, edges(drawn, window, now_s, LOOK_BACK), shares)

    def show_status(self, parts: list[str]) -> None:
        """The line at the top, as markup: the first ones of the parts, as many as fit."""
        room, text = self.size.width - 2, ""
        for part in parts:
            longer = f"{text}  │  {part}" if text else part
            if Content.from_markup(longer).cell_length > room and text:
                break
            text = longer
        if text != self._status:
            self._status = text
            self.query_one("#status", Static).update(text)

    def action_log(self) -> None:
        """Latency on a linear or a logarithmic scale."""
        self.query_one("#latency", LineChart).toggle_log()
