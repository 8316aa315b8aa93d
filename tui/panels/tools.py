"""The panel of tools: the calls of the window, by tool."""

from __future__ import annotations

from mlxdeck.telemetry.analyze.stats import Window, bounds
from mlxdeck.telemetry.analyze.time_series import View
from mlxdeck.telemetry.analyze.tool_schemas import ToolSchemas
from mlxdeck.telemetry.analyze.window_total import AtOnce, Total
from mlxdeck.telemetry.analyze.window_uses import window_tools
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.panels.panel import Moment
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.widgets.tool_table import ToolTable


class ToolsPanel:
    """As the tiles count them: of requests that ended in the window, as filtered."""

    while_hidden = False

    def __init__(self, ctx: Context, name: str) -> None:
        self._ctx = ctx
        self._uses = Total(lambda: AtOnce(window_tools))
        self._schemas = ToolSchemas(ctx.store)
        self.widget = ToolTable(id=name)

    def advance(self, moment: Moment) -> bool:
        """Count them."""
        return self._uses.advance(*self._asked(moment))

    def _asked(self, moment: Moment) -> tuple[Store, Window, float, View, int]:
        store, now_s = self._ctx.store, moment.now_s
        came = store.results.until(now_s)
        return store, self._ctx.window, now_s, self._ctx.view, came

    def show(self, moment: Moment) -> None:
        """List the tools."""
        store, window, now_s = self._ctx.store, self._ctx.window, moment.now_s
        uses = self._uses.at(*self._asked(moment))
        rows = store.by_end.between(*bounds(store, window, now_s))
        label = "since the start" if window.length_s is None else f"in the last {window.label}"
        self.widget.tell_title(f"tools called {label}")
        # Figures that are computed anew are another object: the one before is kept until then.
        self.widget.show_tools(uses, self._schemas.tokens(rows), (id(uses), self._ctx.listing.text))
