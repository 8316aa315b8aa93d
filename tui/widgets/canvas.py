"""A grid of cells that layers are drawn on, one over the other: characters and inks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Ink = Literal[
    "", "axis", "grid", "mark", "cursor", "good", "calm", "warn", "bad", "muted", "plain",
]  # fmt: skip
"""What a cell is drawn with: a style of the chart. What stands behind all data comes first."""
INKS: tuple[Ink, ...] = get_args(Ink)

_LAST_BEHIND = INKS.index("cursor")


class CellRun(NamedTuple):
    """Cells beside each other that are drawn alike."""

    text: str
    ink: Ink


class Canvas:
    """Cells, as (height, width)."""

    def __init__(self, height: int, width: int) -> None:
        shape = (height, width)
        self._codes = np.full(shape, ord(" "), np.uint32)
        self._inks = np.zeros(shape, np.int8)

    def put(self, where: Any, codes: Any, ink: Ink) -> None:
        """Draw characters, given as code points, in some cells."""
        self._codes[where] = codes
        self._inks[where] = INKS.index(ink)

    def write(self, line: int, column: int, text: str, ink: Ink) -> None:
        """Draw a text, as far as there is room."""
        width = self._codes.shape[1]
        text = text[: max(0, width - column)]
        cells = (line, slice(column, column + len(text)))
        self._codes[cells] = [ord(each) for each in text]
        self._inks[cells] = INKS.index(ink)

    def is_free(self, line: int, column: int, n_cells: int) -> bool:
        """Whether nothing stands in some cells but what stands behind all data."""
        return bool((self._inks[line, column : column + n_cells] <= _LAST_BEHIND).all())

    def runs(self, line: int) -> Iterator[CellRun]:
        """A line from left to right."""
        inks = self._inks[line]
        turns = np.flatnonzero(np.diff(inks) != 0) + 1
        text = self._codes[line].astype("<u4").tobytes().decode("utf-32-le")
        for first, end in pairwise([0, *turns.tolist(), len(text)]):
            yield CellRun(text[first:end], INKS[inks[first]])
