"""What draws a canvas: the styles of its inks, and strips that are made once for each change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from mlxdeck.tui.widgets.canvas import INKS, CellRun, Ink
from mlxdeck.tui.widgets.line_widget import LineWidget

COLOURS: dict[Ink, str] = {
    "good": "$success",
    "calm": "$primary",
    "warn": "$warning",
    "bad": "$error",
    "muted": "$dim",
    "plain": "$foreground",
}
"""The same in markup."""


class CanvasWidget(LineWidget):
    """Subclasses draw all their lines at once, and say when they are out of date."""

    COMPONENT_CLASSES = {f"chart--{ink}" for ink in INKS if ink}
    DEFAULT_CSS = """
    CanvasWidget {
        border: round $frame;
        border-title-color: $foreground;
        border-subtitle-color: $dim;
        padding: 0 1 0 0;
    }
    CanvasWidget:focus { border: round $primary; }
    CanvasWidget > .chart--good { color: $success; }
    CanvasWidget > .chart--calm { color: $primary; }
    CanvasWidget > .chart--warn { color: $warning; }
    CanvasWidget > .chart--bad { color: $error; }
    CanvasWidget > .chart--muted { color: $dim; }
    CanvasWidget > .chart--plain { color: $foreground; }
    CanvasWidget > .chart--axis { color: $dim; }
    CanvasWidget > .chart--grid { color: $grid; }
    CanvasWidget > .chart--mark { color: $accent; }
    CanvasWidget > .chart--cursor { color: $foreground; }
    """
    _strips: Sequence[Strip] | None = None

    @property
    def n_buckets(self) -> int:
        """How many buckets of time it can show: one for each column of cells."""
        raise NotImplementedError

    def set_marker(self, marker: str) -> None:
        """Draw with one of `MARKERS`: not every terminal has every character."""
        raise NotImplementedError

    def draw(self) -> Sequence[Strip]:
        """All lines, from the top."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Something has changed."""
        self._strips = None
        self.refresh_changed()

    def notify_style_update(self) -> None:
        """Draw again in the theme's colours."""
        self._strips = None
        super().notify_style_update()

    def make_line(self, y: int) -> Strip:
        """One of them."""
        if self._strips is None:
            self._strips = self.draw()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)

    def ink(self, name: Ink) -> Style:
        """The style of an ink; of none, an empty one."""
        return self.component(f"chart--{name}") if name else Style()

    def strip(self, left: str, runs: Iterable[CellRun]) -> Strip:
        """A text at the left in the axis' colour, and a line of a canvas."""
        told = [Segment(run.text, self.ink(run.ink)) for run in runs]
        return self.line([Segment(left, self.ink("axis")), *told])

    def line(self, segments: list[Segment]) -> Strip:
        """Segments on the widget's own ground, as wide as it is."""
        ground = Style(bgcolor=self.ground.bgcolor)
        strip = Strip(segments).adjust_cell_length(self.size.width)
        return Strip([Segment(each.text, ground + (each.style or ground)) for each in strip])
