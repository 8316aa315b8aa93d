"""Lines over time, drawn line by line; a cursor shows the values of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from mlxdeck.tui.messages import RedrawAsked
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.plot import MARKERS, Axis, Drawing, Plot, PlotLine, Tone, cell

_GUTTER = 8
"""Cells left of the plot: six for a number, one between, one for the axis."""
_LEGEND_MARKS = ("━", "╍", "┅")
_COLOURS: dict[Tone, str] = {
    "good": "$success",
    "calm": "$primary",
    "warn": "$warning",
    "bad": "$error",
}
_RULE, _GRID, _CURSOR = ("╌", "-"), ("┈", " "), ("│", "|")
"""Each in Unicode and in ASCII."""


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The horizontal axis: which stretch of time, and texts spread evenly over it."""

    start_ts: float = 0.0
    end_ts: float = 0.0
    texts: tuple[str, ...] = ()


class LineChart(Widget, can_focus=True):
    """A chart of up to three lines; `show` gives it something to draw."""

    ALLOW_MAXIMIZE = False
    BINDINGS = [
        Binding("left", "look(-1)", "Look back", show=False, tooltip="Values of a moment before"),
        Binding("right", "look(1)", "Look on", show=False, tooltip="Values of a moment later"),
        Binding("enter", "choose", "Find", tooltip="The most notable request of that moment"),
    ]
    COMPONENT_CLASSES = {
        *("chart--good", "chart--calm", "chart--warn", "chart--bad"),
        *("chart--axis", "chart--grid", "chart--cursor"),
    }
    DEFAULT_CSS = """
    LineChart {
        border: round $frame;
        border-title-color: $foreground;
        border-subtitle-color: $dim;
        padding: 0 1 0 0;
    }
    LineChart:focus { border: round $primary; }
    LineChart > .chart--good { color: $success; }
    LineChart > .chart--calm { color: $primary; }
    LineChart > .chart--warn { color: $warning; }
    LineChart > .chart--bad { color: $error; }
    LineChart > .chart--axis { color: $dim; }
    LineChart > .chart--grid { color: $grid; }
    LineChart > .chart--cursor { color: $dim; }
    """

    @dataclass
    class Chosen(Message):
        """The user points at a moment: what ended up to it, from `start_ts` on?"""

        chart: LineChart
        start_ts: float
        end_ts: float

    def __init__(self, axis: Axis, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._axis = axis
        self.border_title = title
        self.log_scale = False
        self.marker = MARKERS[0]
        self.threshold: float | None = None
        """A value that is drawn as a line across."""
        self.look_back = 1
        """So many buckets go into each value."""
        self.hint = ""
        """Text in the middle of an empty chart."""
        self.cursor = -1
        """The column whose values the legend shows; -1 for none."""
        self._lines: list[PlotLine] = []
        self._times = TimeAxis()
        self._values: Sequence[str] = ()
        self._canvas: list[Strip] | None = None

    @property
    def n_buckets(self) -> int:
        """How many buckets it can show: one for each column of cells."""
        return max(8, self._plot_size().width)

    def show(
        self, lines: list[PlotLine], times: TimeAxis, values: Sequence[str], hint: str = ""
    ) -> None:
        """Draw these; the legend names each line and one of the `values`.

        Where there is nothing to draw the `hint` says why.
        """
        same = len(lines) == len(self._lines) and all(
            np.array_equal(new.values, old.values, equal_nan=True)
            for new, old in zip(lines, self._lines, strict=True)
        )
        self._values = values
        moved = (times.texts, hint) != (self._times.texts, self.hint)
        self.hint = hint
        self._lines, self._times = lines, times
        self._show_legend()
        if not same or moved:
            self._redraw()

    def toggle_log(self) -> None:
        """Switch between a linear and a logarithmic scale; only the latter says so."""
        self.log_scale = not self.log_scale
        self._show_legend()
        self._redraw()

    def set_marker(self, marker: str) -> None:
        """Draw with one of `MARKERS`: not every terminal has every character."""
        self.marker = marker
        self._redraw()

    def notify_style_update(self) -> None:
        """Draw again in the theme's colours."""
        self._canvas = None
        super().notify_style_update()

    def on_resize(self) -> None:
        """It has room for other buckets now."""
        self.cursor = -1
        self._redraw()
        self.post_message(RedrawAsked())

    def on_blur(self) -> None:
        self._look_at(-1)

    def on_leave(self) -> None:
        self._look_at(-1)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Show the values under the mouse."""
        offset = event.get_content_offset(self)
        self._look_at(offset.x - _GUTTER if offset else -1)

    def on_click(self, event: events.Click) -> None:
        """Choose the request behind that moment; the screen handles double clicks."""
        offset = event.get_content_offset(self)
        if event.chain == 1 and offset:
            self._look_at(offset.x - _GUTTER)
            self.action_choose()

    def action_look(self, step: int) -> None:
        """Move the cursor, from the newest moment on."""
        last = self._plot_size().width - 1
        self._look_at(max(0, min(last, last if self.cursor < 0 else self.cursor + step)))

    def action_choose(self) -> None:
        """Ask for the request behind the moment under the cursor."""
        if self.cursor >= 0 and self._lines:
            n_buckets, bucket = len(self._lines[0].values), self._bucket()
            bucket_s = (self._times.end_ts - self._times.start_ts) / n_buckets
            end_ts = self._times.start_ts + (bucket + 1) * bucket_s
            self.post_message(self.Chosen(self, end_ts - self.look_back * bucket_s, end_ts))

    def _look_at(self, column: int) -> None:
        column = column if 0 <= column < self._plot_size().width else -1
        if column != self.cursor:
            self.cursor = column
            self._show_legend()
            self._redraw()

    def _bucket(self) -> int:
        n_buckets = len(self._lines[0].values)
        # The values may still be those of another width.
        return min(n_buckets - 1, self.cursor * n_buckets // self._plot_size().width)

    def _show_legend(self) -> None:
        parts, values = ["log scale"] if self.log_scale else [], self._values
        if self.cursor >= 0 and self._lines:
            at, n_buckets = self._bucket(), len(self._lines[0].values)
            length_s = self._times.end_ts - self._times.start_ts
            moment = self._times.start_ts + length_s * (at + 1) / n_buckets
            parts.append(f"[b]{fmt.moment(moment, length_s)}[/b]")
            values = [self._axis.value(float(line.values[at])) for line in self._lines]
        parts += [
            f"[{_COLOURS[line.tone]}]{mark}[/] {line.label} {value}"
            for mark, line, value in zip(_LEGEND_MARKS, self._lines, values, strict=False)
        ]
        self.border_subtitle = "  ".join(parts)

    def _redraw(self) -> None:
        self._canvas = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of cells, from the picture that is drawn once for each change."""
        if self._canvas is None:
            self._canvas = self._draw()
        return self._canvas[y] if y < len(self._canvas) else Strip.blank(self.size.width)

    def _plot_size(self) -> Size:
        return Size(max(4, self.size.width - _GUTTER), max(1, self.size.height - 1))

    def _draw(self) -> list[Strip]:
        plot = Plot.of(self._lines, self._axis, self._plot_size(), log=self.log_scale)
        drawing, labels, ruled = plot.draw(self._lines), plot.labels(), plot.row(self.threshold)
        strips = [
            self._line(drawing, y, labels.get(y), ruled=y == ruled) for y in range(plot.size.height)
        ]
        if self.hint and not drawing.masks.any():
            strips[plot.size.height // 2] = self._hint(plot.size.width)
        return [*strips, self._bottom(plot.size.width)]

    def _hint(self, width: int) -> Strip:
        axis = self.get_component_rich_style("chart--axis")
        text = fmt.one_line(self.hint, width).center(width)
        return self._on_background([Segment(" " * (_GUTTER - 1) + "│" + text, axis)])

    def _line(self, drawing: Drawing, y: int, label: float | None, *, ruled: bool) -> Strip:
        axis = self.get_component_rich_style("chart--axis")
        text = "" if label is None else self._axis.text(label)
        left = f"{text:>{_GUTTER - 2}} ┤" if text else " " * (_GUTTER - 1) + "│"
        segments = [Segment(left, axis)]
        styles = [self.get_component_rich_style(f"chart--{line.tone}") for line in self._lines]
        cursor = self.get_component_rich_style("chart--cursor")
        plain = int(self.marker == "ascii")
        empty, filling = " ", Style()
        if ruled:
            empty, filling = _RULE[plain], self.get_component_rich_style("chart--bad")
        elif text:
            empty, filling = _GRID[plain], self.get_component_rich_style("chart--grid")
        run, before = "", filling
        masks, owners = drawing.masks[y].tolist(), drawing.owners[y].tolist()
        for x, (mask, owner) in enumerate(zip(masks, owners, strict=True)):
            style = styles[owner] if mask else cursor if x == self.cursor else filling
            if style != before:
                segments.append(Segment(run, before))
                run, before = "", style
            if mask:
                run += cell(mask, owner, self.marker)
            else:
                run += _CURSOR[plain] if x == self.cursor else empty
        return self._on_background([*segments, Segment(run, before)])

    def _bottom(self, width: int) -> Strip:
        axis = self.get_component_rich_style("chart--axis")
        text = spread(self._times.texts, width)
        return self._on_background([Segment(" " * _GUTTER + text, axis)])

    def _on_background(self, segments: list[Segment]) -> Strip:
        strip = Strip(segments).adjust_cell_length(self.size.width)
        return strip.apply_style(Style(bgcolor=self.rich_style.bgcolor))


def spread(texts: Sequence[str], width: int) -> str:
    """Texts at even distances, the first and the last at the ends; as many as don't touch."""
    last = len(texts) - 1
    for step in (step for step in range(1, last + 1) if last % step == 0):
        line = ""
        for n in range(0, last + 1, step):
            at = round((width - len(texts[n])) * n / last)
            if at < len(line) + bool(line):
                break
            line = line.ljust(at) + texts[n]
        else:
            return line
    return " " * width
