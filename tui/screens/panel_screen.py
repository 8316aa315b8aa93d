"""A screen of panels: which of them are shown, which one has the focus, and one alone."""

from __future__ import annotations

from textual import on
from textual.events import Click
from textual.screen import Screen

from mlxdeck.tui.messages import RedrawAsked
from mlxdeck.tui.panels.registry import PANEL_IDS, PANELS, ROWS
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.widgets.canvas_widget import CanvasWidget


class PanelScreen(Screen[None]):
    """Shows the panels that the user wants, where there is room for them."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._ctx = context
        self.alone = ""
        """The panel that is shown alone; empty for none."""

    def focus_list(self) -> None:
        """Give the requests the focus, or where they are hidden the first panel that is shown."""
        widgets = [self.query_one(f"#{panel}") for panel in ("requests", *PANEL_IDS)]
        shown = [each for each in widgets if each.id in self._shown and each.can_focus]
        self.set_focus(shown[0] if shown else None)

    @property
    def _shown(self) -> set[str]:
        return {self.alone} if self.alone else self._wanted()

    def _wanted(self) -> set[str]:
        """The panels that are shown where there is room for them."""
        ways, width = self._ctx.ways, self.app.size.width
        return {
            kind.id
            for kind in PANELS
            if kind.id not in ways.hidden and (width >= kind.from_columns or kind.id in ways.asked)
        }

    def on_resize(self) -> None:
        """Some panels are there in a wide terminal."""
        if self.is_mounted:
            self.show_panels()

    def show_panels(self) -> None:
        """Lay out those that are shown."""
        shown = self._shown
        self.set_class(bool(self.alone), "-alone")
        for panel in PANEL_IDS:
            widget = self.query_one(f"#{panel}")
            widget.set_class(panel not in shown, "-off")
            widget.set_class(panel == self.alone, "-only")
        for row in ROWS:
            panels = {kind.id for kind in PANELS if kind.row == row}
            self.query_one(f"#{row}").set_class(shown.isdisjoint(panels), "-off")
        if self.focused is None or self.focused.id in PANEL_IDS and self.focused.id not in shown:
            self.focus_list()

    def action_panel(self, panel: str) -> None:
        """Show or hide a panel."""
        ways, wanted = self._ctx.ways, self._wanted()
        if panel not in wanted:
            ways.hidden = [each for each in ways.hidden if each != panel]
            ways.asked = [*ways.asked, panel]
        elif len(wanted) > 1:
            ways.hidden = [*ways.hidden, panel]
            ways.asked = [each for each in ways.asked if each != panel]
        self._show_alone("")

    def action_maximize(self) -> None:
        """The focused panel alone, or all of them again."""
        focused = self.focused.id if self.focused else None
        self._show_alone("" if self.alone or focused not in PANEL_IDS else str(focused))

    def _show_alone(self, panel: str) -> None:
        """Show one panel and no other; with none, all that are wanted."""
        self.alone = panel
        self.show_panels()
        self.call_after_refresh(self.post_message, RedrawAsked())

    @on(Click)
    def _alone(self, event: Click) -> None:
        """Two clicks on a chart show it alone, and two more all of them again."""
        if event.chain == 2 and isinstance(event.widget, CanvasWidget):
            self._show_alone("" if self.alone else str(event.widget.id))
