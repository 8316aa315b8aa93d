"""Lines over time on a grid of cells: pure arithmetic, without a terminal.

Each value spans its bucket as a step, so that a single request in a quiet hour is visible. Buckets
without a request stay empty. Lines differ in dash pattern as well as in colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from textual.geometry import Size

Array = np.ndarray[Any, np.dtype[Any]]
Tone = Literal["good", "calm", "warn", "bad"]

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


@dataclass(frozen=True, slots=True)
class PlotLine:
    """One line of a chart."""

    label: str
    values: Array
    """One value a bucket; NaN for none."""
    tone: Tone


@dataclass(frozen=True, slots=True)
class Axis:
    """The vertical axis: format of its round numbers, format of values, and a fixed top, if any."""

    text: Callable[[float], str]
    value: Callable[[float], str]
    top: float | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lines on a grid of cells, each array of the grid's shape (height, width)."""

    masks: Array
    """Braille dots."""
    owners: Array
    """The line whose colour a cell has; -1 for none."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A grid of cells and the range of values that it spans."""

    size: Size
    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, lines: Sequence[PlotLine], axis: Axis, size: Size, *, log: bool) -> Plot:
        """A range in which all lines fit; a logarithmic one only if there is a value for it."""
        values = [line.values[~np.isnan(line.values)] for line in lines]
        known = np.concatenate(values) if values else np.array([])
        if log and len(known) and (positive := known[known > 0]).size:
            low = float(10 ** np.floor(np.log10(positive.min())))
            return cls(size, low, max(nice_top(float(positive.max())), low * 10), log=True)
        top = axis.top or (nice_top(float(known.max())) if len(known) else 1.0)
        return cls(size, 0.0, top)

    def draw(self, lines: Sequence[PlotLine]) -> Drawing:
        """All lines; where they meet, their colours take turns, so that none is hidden."""
        shape = (self.size.height, self.size.width)
        masks, owners = np.zeros(shape, np.uint8), np.full(shape, -1, np.int8)
        drawn = [self._dots(line.values, dash) for line, dash in zip(lines, _DASHES, strict=False)]
        columns = np.arange(self.size.width)
        for index, dots in enumerate(drawn):
            masks |= dots
            owners[(dots > 0) & ((owners < 0) | (columns % len(drawn) == index))] = index
        return Drawing(masks, owners)

    def row(self, value: float | None) -> int:
        """The line of cells that a value lies in; -1 if it is not in sight."""
        if not value or not self.low <= value <= self.high:
            return -1
        rows = self.size.height * 4
        (height,) = self._heights(np.array([value]), rows)
        return int((rows - 1 - height) // 4)

    def labels(self) -> dict[int, float]:
        """Labels of the axis, by the line of cells that they are in."""
        height = self.size.height
        if self.log:
            decades = np.arange(np.log10(self.low), np.log10(self.high) + 1e-9)
            step = int(np.ceil(len(decades) / max(1, height // 2)))
            values = 10.0 ** decades[::step]
            shares = np.log(values / self.low) / np.log(self.high / self.low)
        else:
            shares = np.linspace(0, 1, 5 if height >= 9 else 3 if height >= 4 else 2)
            values = self.low + (self.high - self.low) * shares
        return {
            round((height - 1) * (1 - share)): value
            for share, value in zip(shares.tolist(), values.tolist(), strict=True)
        }

    def _dots(self, values: Array, dash: tuple[int, ...]) -> Array:
        """One line as braille masks."""
        rows, columns = self.size.height * 4, self.size.width * 2
        grid = np.zeros((rows, columns), bool)
        heights = self._heights(values, rows)
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
        cells = grid.reshape(self.size.height, 4, self.size.width, 2)
        masks: Array = (cells * _DOTS[None, :, None, :]).sum(axis=(1, 3)).astype(np.uint8)
        return masks

    def _heights(self, values: Array, rows: int) -> Array:
        """Dot rows from the bottom; -1 where there is no value."""
        known = ~np.isnan(values)
        filled = np.where(known, values, self.low)
        if self.log:
            share = np.log(np.maximum(filled, self.low) / self.low) / np.log(self.high / self.low)
        else:
            share = (filled - self.low) / (self.high - self.low)
        heights = np.clip(np.round(share * (rows - 1)), 0, rows - 1).astype(int)
        return np.where(known, heights, -1)


def cell(mask: int, owner: int, marker: str) -> str:
    """Dots as a character of one of `MARKERS`."""
    if marker == "braille":
        return chr(_BLANK + mask)
    if marker == "ascii":
        return _ASCII[owner]
    return _BLOCKS[sum(1 << n for n, bits in enumerate(_QUARTERS) if mask & bits)]


def nice_top(value: float) -> float:
    """The next number above that is round, and so are its quarters."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    steps = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10)
    return float(next(step * power for step in steps if value <= step * power * 1.001))
