"""The panel of overlapping requests."""

from __future__ import annotations

from mlxdeck.telemetry.analyze.request_lanes import AgentLanes
from mlxdeck.telemetry.analyze.request_spans import request_spans
from mlxdeck.telemetry.analyze.time_grid import span_s
from mlxdeck.tui.panels.panel import Moment, QuickPanel
from mlxdeck.tui.present.moments import ticks
from mlxdeck.tui.present.view_model import nothing_in
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.widgets.time_axis import TimeAxis
from mlxdeck.tui.widgets.timeline import Timeline

FROM_COLUMNS = 180
"""So wide a terminal shows it at first."""


class TimelinePanel(QuickPanel):
    """Requests of the window, each in a lane of its agent."""

    while_hidden = False

    def __init__(self, ctx: Context, name: str) -> None:
        self._ctx = ctx
        self._lanes = AgentLanes()
        self.widget = Timeline(ctx.store, id=name)
        self._version: object = None
        self._was_loading = True

    def show(self, moment: Moment) -> None:
        """Draw the window as it is at a moment."""
        ctx, store, now_s, widget = self._ctx, self._ctx.store, moment.now_s, self.widget
        length_s = span_s(store, ctx.window, now_s)
        step = int(now_s / length_s * widget.n_buckets)
        # The phases of a request under the cursor are told in seconds.
        second = moment.second if widget.item >= 0 else 0
        version = (step, moment.version, second, ctx.window, widget.n_buckets, moment.axis_cells)
        if version == self._version:
            return
        self._version = version
        spans = request_spans(store, now_s - length_s, now_s, ctx.view.mask)
        times = TimeAxis(now_s - length_s, now_s, ticks(ctx, now_s, moment.axis_cells, now_s))
        hint = nothing_in(
            store, ctx.window, now_s, filtered=bool(ctx.listing.text), n_listed=len(moment.rows)
        )
        if self._was_loading:
            # What happened to be read first doesn't decide where the rest lies.
            self._lanes = AgentLanes()
        self._was_loading = ctx.source.loaded < 1
        widget.show(self._lanes.place(store, spans, now_s), times, hint)
        n_ended, n = sum(not span.runs for span in spans), moment.total.n_requests
        shown = f": the last {n_ended} of {n:,}" if n_ended < n else ""
        widget.tell_title(f"timeline{shown}")
