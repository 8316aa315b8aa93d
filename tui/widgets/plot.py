"""Lines, stacked areas and dots over time, on a grid of cells: pure arithmetic.

Everything lies on the rows of dots of one `Scale`: lines, dots, areas, and the grid below them. A
column of cells is a bucket of time. Where nothing happened, nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.tui.widgets.canvas import Ink
from mlxdeck.tui.widgets.scale import DOTS, Scale

Array = np.ndarray[Any, np.dtype[Any]]

# Bits of the dots of a braille cell, [row][column], https://www.unicode.org/charts/PDF/U2800.pdf.
BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
BLANK = 0x2800
# The same dots as quarters of a cell: bits of top left, top right, bottom left, bottom right.
_QUARTERS = (0x03, 0x18, 0x44, 0xA0)
_BLOCKS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"
MARKERS = ("braille", "block", "ascii")
_ASCII = ("*", "+", ".")
# Which of four dots in a row are drawn: solid, dashed, dotted.
_DASHES = ((1, 1, 1, 1), (1, 1, 1, 0), (1, 0, 1, 0))
LINE_MARKS = ("━*", "╍+", "┅.")
"""Of each line in the legend: in Unicode and in ASCII."""


@dataclass(frozen=True, slots=True)
class PlotLine:
    """One line of a chart."""

    label: str
    values: Array
    """One value a column; NaN for none."""
    ink: Ink


@dataclass(frozen=True, slots=True)
class PlotArea:
    """One layer of a stack; the first one is at the bottom."""

    label: str
    values: Array
    """Its height, one value a column; NaN for none."""
    ink: Ink
    fill: str
    """Its character, one in Unicode and one in ASCII."""


@dataclass(frozen=True, slots=True)
class DotKind:
    """What a dot says."""

    label: str
    mark: str
    """Its character, one in Unicode and one in ASCII."""
    ink: Ink


@dataclass(frozen=True, slots=True)
class PlotDots:
    """Dots of several kinds, counted where they lie on a scale."""

    kinds: Sequence[DotKind]
    counts: Array
    """How many dots of each kind are in each column: shape (kinds, columns)."""
    on: Callable[[Scale], Array]
    """How many there are in each cell: shape (kinds, lines from the top, columns)."""
    notable: int
    """The kind that is seen also where it is rare."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lines on a grid of cells, each array of the grid's shape (height, width)."""

    masks: Array
    """Braille dots."""
    owners: Array
    """The line whose colour a cell has; -1 for none."""


def drawn_lines(values: Sequence[Array], scale: Scale, width: int) -> Drawing:
    """All lines; where they meet, their colours take turns, so that none is hidden."""
    shape = (scale.n_rows, width)
    masks, owners = np.zeros(shape, np.uint8), np.full(shape, -1, np.int8)
    drawn = [
        _line_dots(scale.dots(each), scale, width, dash)
        for each, dash in zip(values, _DASHES, strict=False)
    ]
    columns = np.arange(width)
    for index, dots in enumerate(drawn):
        masks |= dots
        owners[(dots > 0) & ((owners < 0) | (columns % len(drawn) == index))] = index
    return Drawing(masks, owners)


def _line_dots(heights: Array, scale: Scale, width: int, dash: tuple[int, ...]) -> Array:
    """One line as braille masks."""
    rows, columns = scale.n_dots, width * 2
    grid = np.zeros((rows, columns), bool)
    column_of = np.minimum(np.arange(columns) * len(heights) // columns, len(heights) - 1)
    before = -1
    for x, height in enumerate(heights[column_of].tolist()):
        if height < 0:
            before = -1
            continue
        if dash[x % 4]:
            grid[rows - 1 - height, x] = True
        if before >= 0 and before != height:
            first, last = sorted((before, height))
            grid[rows - 1 - last : rows - first, x] = True
        before = height
    cells = grid.reshape(scale.n_rows, DOTS, width, 2)
    masks: Array = (cells * BITS[None, :, None, :]).sum(axis=(1, 3)).astype(np.uint8)
    return masks


def row_mask(dot: int) -> int:
    """A row of dots, given from the bottom, as the mask of a cell that has one dot of it."""
    return int(BITS[DOTS - 1 - dot % DOTS, 0])


def glyphs(masks: Array, owners: Array, marker: str) -> Array:
    """Dots as code points of one of `MARKERS`."""
    if marker == "braille":
        return BLANK + masks.astype(np.uint32)
    if marker == "ascii":
        return np.array([ord(each) for each in _ASCII], np.uint32)[owners]
    quarters = np.zeros(masks.shape, np.uint8)
    for n, bits in enumerate(_QUARTERS):
        quarters |= ((masks & bits) > 0).astype(np.uint8) << n
    return np.array([ord(each) for each in _BLOCKS], np.uint32)[quarters]


def stacked(values: Sequence[Array], scale: Scale, width: int) -> tuple[Array, Array, Array]:
    """Layers on cells: the lower layer of each cell and the upper one, and rows of the lower one.

    Each of the shape (height, width); -1 is no layer. A cell of one layer has it twice.
    """
    column_of = np.minimum(np.arange(width) * len(values[0]) // max(1, width), len(values[0]) - 1)
    tops = np.nan_to_num(np.cumsum(np.stack(values)[:, column_of], axis=0))
    ends = np.rint(tops / scale.high * scale.n_dots)
    dots = np.arange(scale.n_dots)
    layers = (dots[None, :, None] >= ends[:, None, :]).sum(axis=0).astype(np.int8)
    layers[layers == len(values)] = -1
    cells = layers.reshape(scale.n_rows, DOTS, width)[::-1]
    lower, upper = cells[:, 0], cells[:, -1]
    return lower, upper, (cells == lower[:, None, :]).sum(axis=1)


def shown_kinds(counts: Array, notable: int) -> Array:
    """Of each cell the kind that is drawn there: the most frequent; -1 where there is no dot.

    The `notable` kind is drawn already where it is a quarter.
    """
    total = counts.sum(axis=0)
    kinds = np.where(total > 0, counts.argmax(axis=0), -1)
    is_notable = (total > 0) & (counts[notable] * 4 >= total)
    return np.asarray(np.where(is_notable, notable, kinds))
