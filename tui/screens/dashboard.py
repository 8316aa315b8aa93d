"""The main screen: key figures, charts, the requests, the tool calls and the errors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Footer, Input, Static

from mlxdeck.telemetry.alerts.watch import Alert
from mlxdeck.telemetry.analyze.report import Period
from mlxdeck.telemetry.analyze.stats import Summary, SummarySums
from mlxdeck.telemetry.analyze.time_series import EVERYTHING, TimeSeries, View
from mlxdeck.telemetry.analyze.token_flow import output_tokens_per_s
from mlxdeck.telemetry.analyze.window_total import Total, in_parts
from mlxdeck.telemetry.analyze.window_uses import UsesSums
from mlxdeck.telemetry.query.filters import NAME, FilterError, expanded
from mlxdeck.tui.messages import (
    FilterChanged,
    OrderAsked,
    PreferencesChanged,
    RedrawAsked,
    RequestChosen,
)
from mlxdeck.tui.panels.panel import Moment, Panel
from mlxdeck.tui.panels.registry import PANELS, ROWS
from mlxdeck.tui.present.charts import stands_out
from mlxdeck.tui.present.status_line import StatusPart, fitted
from mlxdeck.tui.present.tiles import tile_values
from mlxdeck.tui.present.verdict import Judgement, Verdict
from mlxdeck.tui.present.view_model import no_stream
from mlxdeck.tui.screens.ask import AskScreen
from mlxdeck.tui.screens.export import ExportScreen
from mlxdeck.tui.screens.language import LanguageScreen
from mlxdeck.tui.screens.panel_screen import PanelScreen
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.state.request_query import ORDERS, SortOrder
from mlxdeck.tui.widgets.canvas_widget import CanvasWidget
from mlxdeck.tui.widgets.filter_bar import FilterBar
from mlxdeck.tui.widgets.kpi import KpiStrip
from mlxdeck.tui.widgets.line_chart import LineChart
from mlxdeck.tui.widgets.plot import MARKERS
from mlxdeck.tui.widgets.request_table import RequestTable
from mlxdeck.tui.widgets.transport import Transport
from mlxdeck.tui.widgets.verdict_line import VerdictLine

FINDINGS_S = 3600.0
"""How far back findings are looked for."""


class DashboardScreen(PanelScreen):
    """Draws the state that the application passes to `show`. Holds only the widgets' state."""

    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("tab", "app.focus_next", "Next panel", show=False),
        # Before other bindings, so that text typed right after `/` is already in the filter.
        Binding(
            "slash",
            "filter",
            "Filter",
            key_display="/",
            tooltip="Show only what matches",
            priority=True,
        ),
        Binding("escape", "unfilter", "No filter", show=False, tooltip="Show everything again"),
        Binding(
            "l", "log", "Log", show=False, tooltip="Latency on a linear or a logarithmic scale"
        ),
        Binding("b", "marker", "Dots", show=False, tooltip="Charts in braille, blocks or ASCII"),
        Binding(
            "c",
            "compare",
            "Compare",
            show=False,
            tooltip="Mark a request, then compare another with it",
        ),
        Binding(
            "o", "order", "Order", show=False, tooltip="Newest, slowest, longest requests first"
        ),
        Binding(
            "v", "verdict", "Why", show=False, tooltip="The requests behind the line at the top"
        ),
        Binding("e", "export", "Export", show=False, tooltip="Write the listed requests to a file"),
        Binding("m", "maximize", "Maximize", show=False, tooltip="This panel alone; esc: back"),
        *(
            Binding(str(n), f"panel('{kind.id}')", f"Panel: {kind.name}", show=False)
            for n, kind in enumerate(PANELS, 1)
        ),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._store = context.store
        self._status = Content()
        self._why_empty = ""
        # Series without a filter stay while there is a filter.
        self._totals = (Total(SummarySums), Total(SummarySums))
        self._uses = (Total(UsesSums), Total(UsesSums))
        self._strip_trends = tuple(TimeSeries(ranked=("duration_s",)) for _ in range(2))
        self._panels: dict[str, Panel] = {}
        self._judgement = Judgement()
        self._listed: Verdict | None = None
        """The verdict whose requests are listed, and its filter with them."""

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Static(id="status")
        yield VerdictLine(id="verdict")
        yield FilterBar(self._store, self._ctx.ways, id="filter")
        ctx = self._ctx
        yield Static(no_stream(ctx), id="empty")
        with Vertical(id="panels"):
            yield KpiStrip(id="kpis")
            self._panels = {kind.id: kind.new(ctx, kind.id) for kind in PANELS}
            for row in ROWS:
                with Horizontal(id=row, classes="panels"):
                    yield from (self._panels[kind.id].widget for kind in PANELS if kind.row == row)
        yield Transport(self._ctx.clock, self._store, id="transport")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.query_one(Transport).display = self._ctx.clock.replay
        if self._ctx.ways.marker in MARKERS:
            for chart in self.query(CanvasWidget):
                chart.set_marker(self._ctx.ways.marker)
        self.show_panels()
        self.focus_list()

    def on_screen_resume(self) -> None:
        """What came while another screen was open is drawn."""
        if self.focused is None and self.is_mounted:
            self.focus_list()
        self.post_message(RedrawAsked())

    def drawing(self, now_s: float, *, below: int | None = None) -> Iterator[None]:
        """Draw the store as of a moment, in parts; with `below`, only rows below that number."""
        listing = self._ctx.listing
        empty = self._store.n_lines == 0
        self.query_one("#empty").display = empty
        self.query_one("#panels").display = self.query_one(VerdictLine).display = not empty
        if empty:
            self._show_empty()
            return
        yield from in_parts(listing.advance)
        filtered = bool(listing.text)
        for each in {False, filtered}:
            yield from self.adding_up(now_s, filtered=each)
        self._show_verdict(now_s)
        yield
        # The verdict may have changed what is listed.
        filtered = bool(listing.text)
        total = self._totals[filtered].at(
            self._store, self._ctx.window, now_s, self._view(filtered)
        )
        moment = self._moment(now_s, total, below)
        panels = [
            each for each in self._panels.values() if each.while_hidden or each.widget.display
        ]
        # What is listed is seen first, figures of many requests take longer.
        yield from self._showing(moment, [each for each in panels if each.while_hidden])
        yield from self._showing_tiles(now_s, total, filtered=filtered)
        yield from self._showing(moment, [each for each in panels if not each.while_hidden])
        bar = self.query_one(FilterBar)
        if bar.display:
            bar.tell(len(moment.rows), listing.hint, searching=bool(self._ctx.sought))
        if self._ctx.clock.replay:
            self.query_one(Transport).refresh_changed()

    def _view(self, filtered: bool) -> View:
        return self._ctx.view if filtered else EVERYTHING

    def adding_up(self, now_s: float, *, filtered: bool = False) -> Iterator[None]:
        """Find the window's figures, in parts."""
        total = self._totals[filtered]
        # What comes meanwhile is among the rows of the filter, too.
        return in_parts(
            lambda: total.advance(self._store, self._ctx.window, now_s, self._view(filtered))
        )

    def _showing(self, moment: Moment, panels: Iterable[Panel]) -> Iterator[None]:
        for panel in panels:
            yield from in_parts(partial(panel.advance, moment))
            yield
            panel.show(moment)

    def _showing_tiles(self, now_s: float, total: Summary, *, filtered: bool) -> Iterator[None]:
        store, window, strip = self._store, self._ctx.window, self.query_one(KpiStrip)
        trends, uses = self._strip_trends[filtered], self._uses[filtered]
        n, came = strip.n_buckets, store.results.until(now_s)
        yield from in_parts(
            lambda: (
                trends.advance(store, window, now_s, n, self._view(filtered))
                and uses.advance(store, window, now_s, self._view(filtered), came)
            )
        )
        view = self._view(filtered)
        series = trends.series(store, window, now_s, n, view)
        used = uses.at(store, window, now_s, view, came)
        flow = output_tokens_per_s(store, now_s, view.mask)
        gone = self._ctx.clock.shows_end
        told = tile_values(store, total, used, series, now_s, flow, window.label, gone=gone)
        strip.show(told)

    def _show_empty(self) -> None:
        """Why nothing is there yet: that may change before anything comes."""
        text = no_stream(self._ctx)
        if text != self._why_empty:
            self._why_empty = text
            self.query_one("#empty", Static).update(text)

    def _show_verdict(self, now_s: float) -> None:
        """How things are with all requests, whatever the list is filtered by.

        While the requests behind it are listed, they are those that it counts now.
        """
        total = self._totals[False].at(self._store, self._ctx.window, now_s)
        verdict, listing = self._judgement.at(self._ctx, now_s, total), self._ctx.listing
        if self._listed is not None and listing.text != self._listed.filter:
            self._listed = None
        if self._listed is not None:
            # Of a trouble that is over, those stay that it was about last.
            self._listed = self._judgement.of_kind(self._listed.kind) or self._listed
            if listing.text != self._listed.filter:
                listing.set(self._listed.filter)
            listing.choose(self._listed.rows)
        is_listed = self._listed is not None and self._listed.kind == verdict.kind
        self.query_one(VerdictLine).show(verdict, is_listed=is_listed)

    def _moment(self, now_s: float, total: Summary, below: int | None) -> Moment:
        listing, as_of_ts = self._ctx.listing, self._ctx.as_of_ts
        # Another day gives yesterday a date; what is lost is told by no line.
        day, n_open = time.localtime(now_s).tm_yday, self._store.n_open
        version = (listing.version, as_of_ts, below, day, n_open)
        rows = listing.rows(as_of_ts, below)
        shown = (each.n_buckets for each in self.query(CanvasWidget) if each.display)
        cells = min(shown, default=40)
        second = int(now_s) if n_open else 0
        return Moment(now_s, total, rows, version, second, cells, below is not None)

    def alerts(self, now_s: float) -> list[Alert]:
        """Thresholds that the window's figures have newly crossed, without any filter.

        Where there are hooks, also the last hour's findings. Of a stream that has ended, hooks are
        not told.
        """
        if not self._store.n_lines or self._ctx.source.loaded < 1:
            return []
        total = self._totals[False].at(self._store, self._ctx.window, now_s)
        is_live = not self._ctx.clock.over and not self._ctx.clock.replay
        searched = Period(now_s - FINDINGS_S, now_s)
        return self._ctx.alarm.look(self._store, searched, total, fires=is_live)

    def filter_by(self, text: str, typed_at: int = -1) -> None:
        """Set a filter, or show its mistake; a filter that is typed is one without its end."""
        bar, listing = self.query_one(FilterBar), self._ctx.listing
        try:
            if typed_at >= 0:
                listing.type(text, typed_at)
            else:
                listing.set(text)
        except FilterError as error:
            if not bar.display:
                self.notify(str(error), title=text, severity="error", markup=False)
            bar.mistake(error, go=typed_at < 0)
            return
        bar.mistake(None)
        if typed_at < 0:
            is_left = self.focused is not None and bar not in self.focused.ancestors
            bar.close()
            if not is_left:
                self.focus_list()

    def show_status(self, told: Iterable[StatusPart]) -> None:
        """The line at the top."""
        text = fitted(told, self.size.width - 2)
        if not text.is_same(self._status):
            self._status = text
            self.query_one("#status", Static).update(text, layout=False)

    @on(LineChart.Chosen)
    def _find(self, message: LineChart.Chosen) -> None:
        """Move the table's cursor to the most notable request up to that moment."""
        store, mask = self._store, self._ctx.listing.mask
        for start_ts in (message.column_ts, message.start_ts):
            ended = store.by_end.between(start_ts, message.end_ts)
            shown = ended if mask is None else ended[mask[ended]]
            row = stands_out(str(message.chart.id), store, shown)
            if row >= 0:
                self.query_one(RequestTable).go_to(row)
                return

    def action_log(self) -> None:
        """Latency on a linear or a logarithmic scale."""
        chart = self.query_one("#latency", LineChart)
        chart.toggle_log()
        self._ctx.ways.log_scale = chart.log_scale

    def action_marker(self) -> None:
        """The next kind of dots."""
        following = MARKERS.index(self.query_one("#latency", LineChart).marker) + 1
        self._ctx.ways.marker = MARKERS[following % len(MARKERS)]
        for chart in self.query(CanvasWidget):
            chart.set_marker(self._ctx.ways.marker)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In a text the filter's key is a character."""
        del parameters
        return not (action == "filter" and isinstance(self.focused, Input))

    def action_filter(self) -> None:
        """Type a filter."""
        self.query_one(FilterBar).open(self._ctx.listing.text)

    def action_language(self) -> None:
        """Show the filter language."""
        self.app.push_screen(LanguageScreen(self._ctx.ways.kept, self.size.width))

    def action_keep(self) -> None:
        """Give the filter that is in force a name."""
        if self._ctx.listing.text:
            self.app.push_screen(AskScreen("keep this filter as", "slow"), self._keep)
        else:
            self.notify("there is no filter to keep", severity="warning")

    def _keep(self, name: str | None) -> None:
        if name is None:
            return
        name = name.removeprefix("@").replace(" ", "-")
        if not NAME.fullmatch(name):
            self.notify("a name is made of letters, digits, - and _", severity="error")
            return
        kept = self._ctx.ways.kept
        kept[name] = expanded(self._ctx.listing.text, kept)
        self.post_message(PreferencesChanged())
        self.notify(f"use the filter as @{name}", title="kept", timeout=3)

    def action_unfilter(self) -> None:
        """Show everything again, panels too."""
        if self.alone:
            self._show_alone("")
        elif self._ctx.listing.text:
            self.post_message(FilterChanged(""))

    def action_compare(self) -> None:
        """Mark the request under the cursor, or compare it with the one that is marked."""
        table = self.query_one(RequestTable)
        if table.item < 0:
            return
        if table.marked in (-1, table.item):
            table.marked = -1 if table.marked == table.item else table.item
            table.refresh()
            if table.marked >= 0:
                self.notify("marked as A: press c on another one", timeout=3)
            return
        self.post_message(RequestChosen(table.item, against=table.marked))
        table.marked = -1
        table.refresh()

    def action_verdict(self) -> None:
        """List the requests behind the verdict, or all of them again."""
        verdict = self.query_one(VerdictLine).verdict
        is_listed = self._listed is not None and self._listed.kind == verdict.kind
        if is_listed or verdict.filter:
            self._listed = None if is_listed else verdict
            self.post_message(FilterChanged("" if is_listed else verdict.filter))
        else:
            self.notify(verdict.advice or "there is no request behind it", timeout=5)

    def action_order(self) -> None:
        """The next order of the requests."""
        following = ORDERS.index(self._ctx.listing.order) + 1
        self._list_by(ORDERS[following % len(ORDERS)])

    @on(OrderAsked)
    def _on_order_asked(self, message: OrderAsked) -> None:
        for order in ORDERS:
            if order.title == message.title:
                self._list_by(order)

    def _list_by(self, order: SortOrder) -> None:
        table = self.query_one(RequestTable)
        self._ctx.listing.order = order
        table.first_word = order.first
        table.tell_title(f"requests, {order.first} first" if order.column else "requests")
        table.action_newest()
        self.post_message(RedrawAsked())

    def action_export(self) -> None:
        """Write the listed requests to a file."""
        self.app.push_screen(ExportScreen(self._store, self._ctx.rows, self._ctx.as_of_ts))
