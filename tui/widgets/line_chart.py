"""A chart over time: dots, lines or a stack, drawn line by line; a cursor tells one moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.segment import Segment
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from mlxdeck.tui.messages import RedrawAsked
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets import plot
from mlxdeck.tui.widgets.canvas import Canvas, Ink
from mlxdeck.tui.widgets.canvas_widget import COLOURS, CanvasWidget
from mlxdeck.tui.widgets.plot import MARKERS, Array, PlotArea, PlotDots, PlotLine
from mlxdeck.tui.widgets.scale import Axis, Scale
from mlxdeck.tui.widgets.time_axis import TimeAxis, spread

GUTTER = 8
"""Cells left of the plot: six for a number, one between, one for the axis."""
_GRID, _FRAME, _RULE, _CURSOR, _MARK = ("┈", "."), ("▁", "_"), ("╌", "-"), ("│", "|"), ("┊", ":")
"""Each in Unicode and in ASCII. With braille, grid and frame are rows of dots."""
_LOWEST = 0xC0
"""Both dots of a cell's lowest row."""
_EIGHTHS, _SOLID = " ▁▂▃▄▅▆▇█", "█"


@dataclass(frozen=True, slots=True)
class LegendItem:
    """What the legend says of one thing that is drawn."""

    mark: str
    ink: Ink
    label: str
    total: str
    """Its figure, over the window."""
    at: Callable[[int], str]
    """Its figure in a column."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a chart draws."""

    times: TimeAxis = field(default_factory=TimeAxis)
    n_columns: int = 0
    """Buckets of time, one for each column of cells."""
    lines: Sequence[PlotLine] = ()
    areas: Sequence[PlotArea] = ()
    dots: PlotDots | None = None
    ends: tuple[float, float] = (float("nan"), float("nan"))
    """The lowest value above zero, and the highest that has to be in sight."""
    cap: float = float("nan")
    """Where a linear scale ends, if not at the highest: dots above it are in its highest line."""
    legend: Sequence[LegendItem] = ()
    hint: str = ""
    """Text in the middle of an empty chart."""
    version: object = None
    """While it is the same, so is the picture."""

    @property
    def figures(self) -> list[Array]:
        """Of lines and areas, one value a column each."""
        return [*(each.values for each in self.lines), *(each.values for each in self.areas)]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        has_dots = self.dots is not None and bool(self.dots.counts.any())
        return not has_dots and all(np.isnan(values).all() for values in self.figures)


class LineChart(CanvasWidget, can_focus=True):
    """Draws a `Picture`."""

    ALLOW_MAXIMIZE = False
    BINDINGS = [
        Binding("left", "look(-1)", "Look back", show=False, tooltip="Values of a moment before"),
        Binding("right", "look(1)", "Look on", show=False, tooltip="Values of a moment later"),
        Binding("enter", "choose", "Find", tooltip="The most notable request of that moment"),
    ]

    @dataclass
    class Chosen(Message):
        """The user points at a moment: what ended in it?"""

        chart: LineChart
        start_ts: float
        """Of the column; or where the figures begin that it shows."""
        column_ts: float
        end_ts: float

    def __init__(self, axis: Axis, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._axis = axis
        self.tell_title(title)
        self.log_scale = False
        self.marker = MARKERS[0]
        self.threshold: float | None = None
        """A value that is drawn as a line across."""
        self.look_back = 1
        """So many buckets go into each value of a line."""
        self.cursor = -1
        """The column whose values the legend shows; -1 for none."""
        self._picture = Picture()

    @property
    def n_buckets(self) -> int:
        """How many buckets it can show: one for each column of cells."""
        return max(8, self._plot_size().width)

    def show(self, picture: Picture) -> None:
        """Draw this; nothing is drawn if it is the same picture as before."""
        before, self._picture = self._picture, picture
        self._show_legend()
        if picture.version is None or picture.version != before.version:
            self.redraw()

    def toggle_log(self) -> None:
        """Switch between a linear and a logarithmic scale; only the latter says so."""
        self.log_scale = not self.log_scale
        self._show_legend()
        self.redraw()

    def set_marker(self, marker: str) -> None:
        """Draw with one of `MARKERS`: not every terminal has every character."""
        self.marker = marker
        self._show_legend()
        self.redraw()

    def on_resize(self) -> None:
        """It has room for other buckets now."""
        self.cursor = -1
        self.redraw()
        self.post_message(RedrawAsked())

    def on_blur(self) -> None:
        self._look_at(-1)

    def on_leave(self) -> None:
        self._look_at(-1)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Show the values under the mouse."""
        offset = event.get_content_offset(self)
        self._look_at(offset.x - GUTTER if offset else -1)

    def on_click(self, event: events.Click) -> None:
        """Choose the request behind that moment; the screen handles double clicks."""
        offset = event.get_content_offset(self)
        if event.chain == 1 and offset:
            self._look_at(offset.x - GUTTER)
            self.action_choose()

    def action_look(self, step: int) -> None:
        """Move the cursor, from the newest moment on."""
        last = self._plot_size().width - 1
        self._look_at(max(0, min(last, last if self.cursor < 0 else self.cursor + step)))

    def action_choose(self) -> None:
        """Ask for the request behind the moment under the cursor."""
        if self.cursor >= 0 and self._picture.n_columns:
            bucket_s = self._picture.times.length_s / self._picture.n_columns
            end_ts = self._picture.times.start_ts + (self._column() + 1) * bucket_s
            start_ts = end_ts - self.look_back * bucket_s
            self.post_message(self.Chosen(self, start_ts, end_ts - bucket_s, end_ts))

    def _look_at(self, column: int) -> None:
        column = column if 0 <= column < self._plot_size().width else -1
        if column != self.cursor:
            self.cursor = column
            self._show_legend()
            self.redraw()

    def _column(self) -> int:
        n_columns = self._picture.n_columns
        # The values may still be those of another width.
        return min(n_columns - 1, self.cursor * n_columns // self._plot_size().width)

    def _show_legend(self) -> None:
        picture, told = self._picture, ["log scale"] if self.log_scale else []
        room = self.size.width - 3 - sum(len(text) + 2 for text in told)
        has_cursor = self.cursor >= 0 and picture.n_columns > 0
        if has_cursor:
            times, at = picture.times, self._column()
            moment = times.start_ts + times.length_s * (at + 1) / picture.n_columns
            text = fmt.moment(moment, times.length_s)
            told.append(f"[b]{text}[/b]")
            room -= len(text) + 2
        items = [
            (item, item.at(self._column()) if has_cursor else item.total) for item in picture.legend
        ]
        plain = int(self.marker == "ascii")
        self.tell_subtitle("  ".join([*told, *fitted(items, room, plain)]))

    def _plot_size(self) -> Size:
        return Size(max(4, self.size.width - GUTTER), max(1, self.size.height - 1))

    def _scale(self, n_rows: int) -> Scale:
        low, high = self._picture.ends
        if self.log_scale and low > 0:
            return Scale.of_decades(low, high, n_rows)
        cap = self._picture.cap
        is_clipped = cap < high
        return Scale.of(cap if is_clipped else high, self._axis, n_rows, clipped=is_clipped)

    def draw(self) -> list[Strip]:
        """All lines: the plot, and the times below it."""
        size, picture = self._plot_size(), self._picture
        scale, canvas = self._scale(size.height), Canvas(size.height, size.width)
        self._draw_ground(canvas, scale, size)
        plain, marks = int(self.marker == "ascii"), self._mark_columns(size.width)
        for column, _ in marks:
            canvas.put((slice(None), column), ord(_MARK[plain]), "mark")
        if picture.areas:
            # Over the marks, which are at moments of little traffic.
            self._draw_areas(canvas, scale, size.width)
        if self.cursor >= 0:
            canvas.put((slice(None), self.cursor), ord(_CURSOR[plain]), "cursor")
        if picture.dots is not None or picture.lines:
            self._draw_figures(canvas, scale, size.width)
        for column, text in marks:
            self._write_mark(canvas, size.height, column, text)
        if picture.hint and picture.is_empty:
            text = fmt.one_line(picture.hint, size.width).center(size.width)
            canvas.write(size.height // 2, 0, text, "axis")
        left = self._labels(scale)
        strips = [self.strip(left[y], canvas.runs(y)) for y in range(size.height)]
        return [*strips, self.line([Segment(self._bottom(size.width), self.ink("axis"))])]

    def _labels(self, scale: Scale) -> list[str]:
        plain = self.marker == "ascii"
        left = [" " * (GUTTER - 1) + ("|" if plain else "│")] * scale.n_rows
        top = scale.line(scale.n_dots - 1)
        for label in scale.labels():
            line = scale.line(label.dot)
            text = self._axis.text(label.value)
            if scale.clipped and line == top:
                text = f"{text}+"
            left[line] = f"{text:>{GUTTER - 2}} {'+' if plain else '┤'}"
        return left

    def _draw_ground(self, canvas: Canvas, scale: Scale, size: Size) -> None:
        """Grid, frame and threshold, each in the row of dots of its value."""
        plain = int(self.marker == "ascii")
        for label in scale.labels():
            line, is_frame = scale.line(label.dot), label.dot == 0
            sign = ord((_FRAME if is_frame else _GRID)[plain])
            if self.marker == "braille":
                # The frame is a whole row of dots, the grid every second one.
                sign = plot.BLANK + (_LOWEST if is_frame else plot.row_mask(label.dot))
            canvas.put((line, slice(0, size.width)), sign, "axis" if is_frame else "grid")
        dot = scale.dot(self.threshold)
        if dot >= 0:
            canvas.put((scale.line(dot), slice(0, size.width)), ord(_RULE[plain]), "bad")

    def _draw_areas(self, canvas: Canvas, scale: Scale, width: int) -> None:
        """Each cell in the layer that has most of it; the end of what is solid by eighths."""
        plain, areas = int(self.marker == "ascii"), self._picture.areas
        lower, upper, rows = plot.stacked([each.values for each in areas], scale, width)
        shown = np.where(rows >= 2, lower, upper)
        for n, area in enumerate(areas):
            canvas.put(shown == n, ord(area.fill[plain]), area.ink)
        solid = [n for n, area in enumerate(areas) if area.fill[0] == _SOLID and not plain]
        for n in solid:
            for height in (1, 2, 3):
                ends = (lower == n) & (rows == height) & ~np.isin(upper, solid)
                canvas.put(ends, ord(_EIGHTHS[2 * height]), areas[n].ink)

    def _mark_columns(self, width: int) -> list[tuple[int, str]]:
        """Where servers changed, and the word for it, where there is room before the next."""
        times = self._picture.times
        placed = {times.column(mark.ts, width): mark.text for mark in times.marks}
        columns = [*placed, width + 1]
        return [
            (column, text if column + 1 + len(text) < columns[n] else "")
            for n, (column, text) in enumerate(placed.items(), 1)
        ]

    @staticmethod
    def _write_mark(canvas: Canvas, n_rows: int, column: int, text: str) -> None:
        """The word for it, as high as no data stands there; without such a place, none."""
        rows = range(n_rows) if text else ()
        line = next((row for row in rows if canvas.is_free(row, column + 1, len(text))), -1)
        if line >= 0:
            canvas.write(line, column + 1, text, "mark")

    def _draw_figures(self, canvas: Canvas, scale: Scale, width: int) -> None:
        """Dots, and lines over them; where there are few dots, lines pass behind them."""
        dots, lines = self._picture.dots, self._picture.lines
        plain = int(self.marker == "ascii")
        drawing = plot.drawn_lines([each.values for each in lines], scale, width)
        inked = drawing.owners >= 0
        if dots is not None:
            counts = dots.on(scale)
            if counts.shape[2] != width:
                # Of another width; it is drawn again at once.
                counts = np.zeros((len(dots.kinds), scale.n_rows, width), np.int32)
            shown = plot.shown_kinds(counts, dots.notable)
            for n, kind in enumerate(dots.kinds):
                canvas.put(shown == n, ord(kind.mark[plain]), kind.ink)
            is_dense = (shown >= 0).sum(axis=0) * 4 > scale.n_rows
            inked &= (shown < 0) | is_dense[None, :]
        codes = plot.glyphs(drawing.masks, np.maximum(drawing.owners, 0), self.marker)
        for n, line in enumerate(lines):
            own = inked & (drawing.owners == n)
            canvas.put(own, codes[own], line.ink)

    def _bottom(self, width: int) -> str:
        times = self._picture.times
        texts = [tick.text for tick in times.ticks]
        placed = zip(times.tick_columns(width), texts, strict=True)
        return " " * GUTTER + spread(list(placed), width)


def fitted(items: Sequence[tuple[LegendItem, str]], width: int, plain: int = 0) -> list[str]:
    """As much of a legend as there is room for, as markup: the last figures and items go first.

    Marks hold a character in Unicode and one in ASCII.
    """
    n = len(items)
    choices = [(shown, full) for shown in range(n, 0, -1) for full in range(shown, shown // 2, -1)]

    def cells(shown: int, full: int) -> int:
        texts = [f"{item.label} {value}".rstrip() for item, value in items[:full]]
        texts += [item.label for item, _ in items[full:shown]]
        return sum(len(text) + 4 for text in texts) - 2

    found = (each for each in choices if cells(*each) <= width)
    n_shown, n_full = next(found, (min(n, 1), 0))
    return [
        f"[{COLOURS[item.ink]}]{item.mark[plain]}[/] {item.label}"
        + (f" {value}" if n < n_full and value else "")
        for n, (item, value) in enumerate(items[:n_shown])
    ]
