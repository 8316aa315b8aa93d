"""Lines over time in braille dots, drawn line by line.

Each value spans its bucket as a step, so that a single request in a quiet hour is still seen, and
buckets in which nothing happened stay empty. Lines differ in dash pattern as well as in colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

Array = np.ndarray[Any, np.dtype[Any]]

# Bits of the dots of a braille cell, [row][column], https://www.unicode.org/charts/PDF/U2800.pdf.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
_BLANK = 0x2800
# The same dots as quarters of a cell: bits of top left, top right, bottom left, bottom right.
_QUARTERS = (0x03, 0x18, 0x44, 0xA0)
_BLOCKS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"
MARKERS = ("braille", "block", "ascii")
_ASCII = ("*", "o", ".")
# Which of four dots in a row are drawn: solid, dashed, dotted.
_DASHES = ((1, 1, 1, 1), (1, 1, 1, 0), (1, 0, 1, 0))
_LEGEND_MARKS = ("━", "╍", "┅")
Tone = Literal["good", "calm", "warn", "bad"]
_COLOURS: dict[Tone, str] = {
    "good": "$success",
    "calm": "$primary",
    "warn": "$warning",
    "bad": "$error",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    label: str
    values: Array
    """One value a bucket; NaN for none."""
    tone: Tone


@dataclass(frozen=True, slots=True)
class Axis:
    """The vertical axis: how its numbers look, and its range if it is fixed."""

    text: Callable[[float], str]
    top: float | None = None


class LineChart(Widget, can_focus=True):
    """A chart of up to three lines; `show` gives it something to draw."""

    COMPONENT_CLASSES = {"chart--good", "chart--calm", "chart--warn", "chart--bad", "chart--axis"}
    DEFAULT_CSS = """
    LineChart {
        border: round $foreground 20%;
        border-title-color: $foreground;
        border-subtitle-color: $foreground 70%;
        padding: 0 1 0 0;
    }
    LineChart:focus { border: round $primary; }
    LineChart > .chart--good { color: $success; }
    LineChart > .chart--calm { color: $primary; }
    LineChart > .chart--warn { color: $warning; }
    LineChart > .chart--bad { color: $error; }
    LineChart > .chart--axis { color: $foreground 55%; }
    """

    def __init__(self, axis: Axis, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._axis = axis
        self.border_title = title
        self.log_scale = False
        self.marker = MARKERS[0]
        self.threshold: float | None = None
        """A value that is drawn as a line across."""
        self._lines: list[Line] = []
        self._edges: tuple[str, str, str] = ("", "", "")
        self._legend = ""
        self._canvas: list[Strip] | None = None

    @property
    def n_buckets(self) -> int:
        """How many buckets it can show: one for each column of cells."""
        return max(8, self._plot_size().width)

    def show(self, lines: list[Line], edges: tuple[str, str, str], values: list[str]) -> None:
        """Draw these; `edges` label the left end, the middle and the right end.

        The legend names each line and one of the `values`.
        """
        self._legend = "  ".join(
            f"[{_COLOURS[line.tone]}]{mark}[/] {line.label} {value}"
            for mark, line, value in zip(_LEGEND_MARKS, lines, values, strict=False)
        )
        self._show_legend()
        same = len(lines) == len(self._lines) and all(
            np.array_equal(new.values, old.values, equal_nan=True)
            for new, old in zip(lines, self._lines, strict=True)
        )
        if same and edges == self._edges:
            return
        self._lines, self._edges, self._canvas = lines, edges, None
        self.refresh()

    def toggle_log(self) -> None:
        """Switch between a linear and a logarithmic scale; only the latter says so."""
        self.log_scale = not self.log_scale
        self._show_legend()
        self._canvas = None
        self.refresh()

    def set_marker(self, marker: str) -> None:
        """Draw with one of `MARKERS`: not every terminal has every character."""
        self.marker, self._canvas = marker, None
        self.refresh()

    def _show_legend(self) -> None:
        self.border_subtitle = ("log scale  " if self.log_scale else "") + self._legend

    def notify_style_update(self) -> None:
        """Draw anew in the theme's colours."""
        self._canvas = None
        super().notify_style_update()

    def on_resize(self) -> None:
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
        plot = self._plot_size()
        low, high = self._range()
        masks = np.zeros((plot.height, plot.width), np.uint8)
        owner = np.full((plot.height, plot.width), -1, np.int8)
        drawn = [
            self._dots(line.values, plot, low, high, dash)
            for line, dash in zip(self._lines, _DASHES, strict=False)
        ]
        columns = np.arange(plot.width)
        for index, dots in enumerate(drawn):
            masks |= dots
            # Where lines meet, their colours take turns, so that none is hidden.
            owner[(dots > 0) & ((owner < 0) | (columns % len(drawn) == index))] = index
        labels = self._labels(plot.height, low, high)
        ruled = self._ruled(plot, low, high)
        strips = [
            self._line(labels.get(y, ""), masks[y], owner[y], ruled=y == ruled)
            for y in range(plot.height)
        ]
        return [*strips, self._bottom(plot.width)]

    def _range(self) -> tuple[float, float]:
        values = [line.values[~np.isnan(line.values)] for line in self._lines]
        known = np.concatenate(values) if values else np.array([])
        if self.log_scale and len(known) and (positive := known[known > 0]).size:
            low = 10 ** np.floor(np.log10(positive.min()))
            return float(low), max(nice_top(float(positive.max())), float(low) * 10)
        top = self._axis.top or (nice_top(float(known.max())) if len(known) else 1.0)
        return 0.0, top

    def _dots(
        self, values: Array, plot: Size, low: float, high: float, dash: tuple[int, ...]
    ) -> Array:
        """One line as braille masks, shape (height, width)."""
        rows, columns = plot.height * 4, plot.width * 2
        grid = np.zeros((rows, columns), bool)
        heights = self._heights(values, low, high, rows)
        bucket_of = np.minimum(np.arange(columns) * len(values) // columns, len(values) - 1)
        before = -1
        for x, height in enumerate(heights[bucket_of]):
            if height < 0:
                before = -1
                continue
            if dash[x % 4]:
                grid[rows - 1 - height, x] = True
            if before >= 0 and before != height:
                first, last = sorted((before, height))
                grid[rows - 1 - last : rows - first, x] = True
            before = height
        cells = grid.reshape(plot.height, 4, plot.width, 2)
        masks: Array = (cells * _DOTS[None, :, None, :]).sum(axis=(1, 3)).astype(np.uint8)
        return masks

    def _heights(self, values: Array, low: float, high: float, rows: int) -> Array:
        """Dot rows from the bottom; -1 where there is no value."""
        known = ~np.isnan(values)
        filled = np.where(known, values, low)
        if self.log_scale and low > 0:
            share = np.log(np.maximum(filled, low) / low) / np.log(high / low)
        else:
            share = (filled - low) / (high - low)
        heights = np.clip(np.round(share * (rows - 1)), 0, rows - 1).astype(int)
        return np.where(known, heights, -1)

    def _ruled(self, plot: Size, low: float, high: float) -> int:
        """The line of cells that the threshold goes through; -1 if it is not in sight."""
        if not self.threshold or not low <= self.threshold <= high:
            return -1
        rows = plot.height * 4
        (height,) = self._heights(np.array([self.threshold]), low, high, rows)
        return int((rows - 1 - height) // 4)

    def _labels(self, height: int, low: float, high: float) -> dict[int, str]:
        """Texts of the axis, by the line they stand in."""
        if self.log_scale and low > 0:
            decades = np.arange(np.log10(low), np.log10(high) + 1e-9)
            step = int(np.ceil(len(decades) / max(1, height // 2)))
            values = 10.0 ** decades[::step]
            shares = np.log(values / low) / np.log(high / low)
        else:
            shares = np.linspace(0, 1, 5 if height >= 9 else 3 if height >= 4 else 2)
            values = low + (high - low) * shares
        return {
            round((height - 1) * (1 - share)): self._axis.text(value)
            for share, value in zip(shares.tolist(), values.tolist(), strict=True)
        }

    def _cell(self, mask: int, owner: int, *, ruled: bool) -> str:
        """One cell as a character of the marker."""
        if not mask:
            return ("-" if self.marker == "ascii" else "╌") if ruled else " "
        if self.marker == "braille":
            return chr(_BLANK + mask)
        if self.marker == "ascii":
            return _ASCII[owner]
        return _BLOCKS[sum(1 << n for n, bits in enumerate(_QUARTERS) if mask & bits)]

    def _line(self, label: str, masks: Array, owner: Array, *, ruled: bool) -> Strip:
        axis = self.get_component_rich_style("chart--axis")
        segments = [
            Segment(f"{label:>{_GUTTER - 2}} ┤" if label else " " * (_GUTTER - 1) + "│", axis)
        ]
        styles = [self.get_component_rich_style(f"chart--{line.tone}") for line in self._lines]
        empty = self.get_component_rich_style("chart--bad") if ruled else Style()
        start = 0
        for x in range(1, len(masks) + 1):
            if x == len(masks) or owner[x] != owner[start]:
                text = "".join(
                    self._cell(mask, int(owner[start]), ruled=ruled)
                    for mask in masks[start:x].tolist()
                )
                style = styles[owner[start]] if owner[start] >= 0 else empty
                segments.append(Segment(text, style))
                start = x
        return self._on_background(segments)

    def _bottom(self, width: int) -> Strip:
        left, middle, right = self._edges
        text = f"{left}{right:>{max(0, width - len(left))}}"
        at = (width - len(middle)) // 2
        # The middle only where it touches neither end.
        if len(left) < at and at + len(middle) < width - len(right):
            text = text[:at] + middle + text[at + len(middle) :]
        axis = self.get_component_rich_style("chart--axis")
        return self._on_background([Segment(" " * _GUTTER + text, axis)])

    def _on_background(self, segments: list[Segment]) -> Strip:
        strip = Strip(segments).adjust_cell_length(self.size.width)
        return strip.apply_style(Style(bgcolor=self.rich_style.bgcolor))


_GUTTER = 8
"""Cells left of the plot: six for a number, one between, one for the axis."""


def nice_top(value: float) -> float:
    """The next number above that is round, and so are its quarters."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    steps = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10)
    return float(next(step * power for step in steps if value <= step * power * 1.001))
