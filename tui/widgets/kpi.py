"""The key figures at the top: four groups, each with one large figure and those beside it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.containers import Grid
from textual.strip import Strip

from mlxdeck.tui.messages import FilterChanged
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.kpi_layout import Line, laid_out
from mlxdeck.tui.widgets.line_widget import LineWidget
from mlxdeck.tui.widgets.tiles import GROUPS, KpiValue, TileGroup


class KpiGroup(LineWidget):
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
        self._lines: tuple[object, list[Line]] = (None, [])
        """As they are laid out for a size."""
        self.tooltip = "\n".join(f"{tile.labels[0]}: {tile.about}" for tile in group.tiles)

    def show(self, values: Mapping[str, KpiValue]) -> None:
        """Show the figures of this group."""
        self._values = {
            tile.name: values.get(tile.name, KpiValue(fmt.UNKNOWN)) for tile in self._group.tiles
        }
        self._lines = (None, [])
        self.refresh_changed()

    @property
    def lines(self) -> list[Line]:
        """As the size has room for."""
        size = self.content_size
        if self._lines[0] != size:
            found = laid_out(self._group, self._values, *size) if self._values and size else []
            self._lines = (size, found)
        return self._lines[1]

    def on_click(self, event: events.Click) -> None:
        """Show the requests that the figure under the pointer counts."""
        place, lines, x = event.get_content_offset_capture(self), self.lines, 0
        for part in lines[place.y] if 0 <= place.y < len(lines) else ():
            x += len(part.text)
            if place.x < x:
                if part.tile and part.tile.filter:
                    self.post_message(FilterChanged(part.tile.filter))
                return

    def make_line(self, y: int) -> Strip:
        """One of them."""
        line = self.lines[y] if y < len(self.lines) else []
        segments = [Segment(part.text, self.ground + self._style(part.kind)) for part in line]
        return Strip(segments).adjust_cell_length(self.size.width, self.ground)

    def _style(self, kind: str) -> Style:
        return self.component(f"kpi--{kind}") if kind else Style()


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
