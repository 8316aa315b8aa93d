"""Panels that list: requests, tool calls, errors."""

from __future__ import annotations

from mlxdeck.telemetry.analyze.sessions import error_groups
from mlxdeck.tui.panels.panel import Moment, QuickPanel
from mlxdeck.tui.present.view_model import no_requests
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.widgets.error_list import ErrorList
from mlxdeck.tui.widgets.request_table import RequestTable
from mlxdeck.tui.widgets.tool_calls import ToolCallList


class RequestsPanel(QuickPanel):
    """The requests that match, whenever they were."""

    while_hidden = True

    def __init__(self, ctx: Context, name: str) -> None:
        self._ctx = ctx
        self.widget = RequestTable(ctx.store, id=name)

    def show(self, moment: Moment) -> None:
        """List them."""
        table, filtered = self.widget, bool(self._ctx.listing.text)
        table.scope = scope(self._ctx)
        table.as_of_ts, table.now_ts = self._ctx.as_of_ts, moment.now_s
        hint = "" if len(moment.rows) else self._ctx.listing.hint
        replay = self._ctx.clock.replay
        table.empty = no_requests(self._ctx.store, filtered=filtered, replay=replay, hint=hint)
        table.show(moment.rows, moment.version, moment.second)


class CallsPanel(QuickPanel):
    """Their tool calls."""

    while_hidden = True

    def __init__(self, ctx: Context, name: str) -> None:
        self._ctx = ctx
        self.widget = ToolCallList(ctx.store, id=name)

    def show(self, moment: Moment) -> None:
        """List them."""
        calls = self.widget
        calls.scope, calls.now_ts = scope(self._ctx), moment.now_s
        until_ts = calls.as_of_ts = moment.now_s if moment.is_held else self._ctx.as_of_ts
        calls.show(self._ctx.listing.calls(until_ts), moment.version)


class ErrorsPanel(QuickPanel):
    """Their errors, grouped."""

    while_hidden = False

    def __init__(self, ctx: Context, name: str) -> None:
        self._ctx = ctx
        self.widget = ErrorList(id=name)

    def show(self, moment: Moment) -> None:
        """List the groups."""
        store, rows = self._ctx.store, moment.rows
        self.widget.scope = scope(self._ctx)
        ended = store.column("end_ts")[rows] <= moment.now_s
        self.widget.show_groups(error_groups(store, rows[ended]), moment.now_s, moment.version)


def scope(ctx: Context) -> str:
    """What a list is of, for the figures above are of the window."""
    if ctx.listing.is_chosen:
        return "behind the line at the top"
    return "that match" if ctx.listing.text else ""
