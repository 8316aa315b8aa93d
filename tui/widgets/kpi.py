"""The key figures at the top: four groups, each with one large figure and those beside it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Grid
from textual.widget import Widget

from mlxdeck.tui.messages import FilterChanged
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.kpi_layout import Line, laid_out
from mlxdeck.tui.widgets.tiles import GROUPS, KpiValue, TileGroup


class KpiGroup(Widget):
    """One group of figures."""

    COMPONENT_CLASSES = {
        *("kpi--title", "kpi--label", "kpi--value", "kpi--trend"),
        *("kpi--good", "kpi--warn", "kpi--bad"),
    }
    DEFAULT_CSS = """
    KpiGroup {
        height: 5;
        padding: 0 1;
        background: $surface;
        text-wrap: nowrap;
    }
    KpiGroup > .kpi--title { color: $text-primary; text-style: bold; }
    KpiGroup > .kpi--label { color: $dim; }
    KpiGroup > .kpi--value { text-style: bold; }
    KpiGroup > .kpi--good { color: $text-success; text-style: bold; }
    KpiGroup > .kpi--warn { color: $text-warning; text-style: bold; }
    KpiGroup > .kpi--bad { color: $text-error; text-style: bold; }
    KpiGroup > .kpi--trend { color: $primary; }
    """

    def __init__(self, group: TileGroup) -> None:
        super().__init__(id=f"kpi-{group.title}")
        self._group = group
        self._values: Mapping[str, KpiValue] = {}
        self._shown: list[Line] = []
        self.tooltip = "\n".join(f"{tile.labels[0]}: {tile.about}" for tile in group.tiles)

    def show(self, values: Mapping[str, KpiValue]) -> None:
        """Show the figures of this group."""
        self._values = {
            tile.name: values.get(tile.name, KpiValue(fmt.UNKNOWN)) for tile in self._group.tiles
        }
        if self._lines != self._shown:
            self.refresh()

    @property
    def _lines(self) -> list[Line]:
        width, height = self.content_size
        return laid_out(self._group, self._values, width, height) if self._values else []

    def on_click(self, event: events.Click) -> None:
        """Show the requests that the figure under the pointer counts."""
        place, lines, x = event.get_content_offset_capture(self), self._lines, 0
        for part in lines[place.y] if 0 <= place.y < len(lines) else ():
            x += len(part.text)
            if place.x < x:
                if part.tile and part.tile.filter:
                    self.post_message(FilterChanged(part.tile.filter))
                return

    def render(self) -> Text:
        """Its lines, as the size has room for."""
        self._shown = self._lines
        lines = [
            Text.assemble(*((part.text, self._style(part.kind)) for part in line), no_wrap=True)
            for line in self._shown
        ]
        return Text("\n", no_wrap=True).join(lines)

    def _style(self, kind: str) -> Style:
        return self.get_component_rich_style(f"kpi--{kind}") if kind else Style()


class KpiStrip(Grid):
    """All groups; `show` fills them by the tiles' names."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.values: Mapping[str, KpiValue] = {}
        """As shown last."""

    @property
    def n_buckets(self) -> int:
        """How many bars a trend has room for."""
        return max(4, self.query(KpiGroup).first().content_size.width)

    def compose(self) -> ComposeResult:
        """A widget for each group."""
        yield from (KpiGroup(group) for group in GROUPS)

    def show(self, values: Mapping[str, KpiValue]) -> None:
        """Fill the tiles; those that are not named are not known."""
        self.values = values
        for group in self.query(KpiGroup):
            group.show(values)
