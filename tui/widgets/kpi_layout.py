"""Where the figures of a group stand, by the room that there is: pure.

Nothing is cut: what has no room is left out, the last ones first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import NamedTuple

from mlxdeck.tui.widgets.large_digits import HEIGHT, MAX_CELLS, large
from mlxdeck.tui.widgets.sparkline import sparkline
from mlxdeck.tui.widgets.tiles import KpiValue, Tile, TileGroup

MIN_VALUE = 5
"""Cells that a value has at least, so that labels stay where they are as it grows."""
MIN_TREND, MAX_TREND = 8, 60
MAX_COLUMN = 26
ROW_VALUE = 9
"""Cells of the large figure where it is no larger than the others."""


class TilePart(NamedTuple):
    """A stretch of a line: its text, the component class that styles it, whose it is."""

    text: str
    kind: str = ""
    tile: Tile | None = None


Line = list[TilePart]


def laid_out(
    group: TileGroup, values: Mapping[str, KpiValue], width: int, height: int
) -> list[Line]:
    """The lines of a group, none longer than `width`."""
    layout = _Layout(group, values, width, height)
    if height > HEIGHT + 1 and (lines := layout.with_digits()):
        return lines
    if height > 1:
        return layout.in_columns() or layout.in_two_lines()
    return [layout.in_one_line()]


@dataclass(frozen=True, slots=True)
class _Layout:
    group: TileGroup
    values: Mapping[str, KpiValue]
    width: int
    height: int

    @property
    def _large(self) -> KpiValue:
        return self.values[self.group.large.name]

    def with_digits(self) -> list[Line]:
        """Large digits, the other figures beside them, and the trend in what is left.

        Empty if it has no room.
        """
        figure, note = self._figure
        digits = large(figure)
        fitting = next(self._beside(max(len(digits[0]), len(note))), None)
        if fitting is None:
            return []
        left, labels, least = fitting
        room = self.width - left - 1
        beside = min(max(self._cells(labels, least), self.width // 4), MAX_COLUMN, room)
        area = min(room - 1 - beside - 2, MAX_TREND)
        trend = self._trend(area, self.height - 1) if area >= MIN_TREND else []
        if not trend:
            beside = min(room, MAX_COLUMN)
        lines = [self._titled(with_trend=not trend)]
        for place, first in enumerate(self._digits(digits, note, left)):
            line = [first, TilePart(" " * (2 if trend else room - beside + 1))]
            if place < len(labels):
                line += self._stat(place, labels[place], beside)
            if place < len(trend):
                line += [TilePart("  "), trend[place]]
            lines.append(line)
        return lines

    def _beside(self, n_cells: int) -> Iterator[tuple[int, list[str], int]]:
        """Where the others may stand beside digits of so many cells: the first is the best.

        Cells of the digits, labels, and cells that each value has at least.
        """
        n_cells += 2 if self._large.mark else 0
        for left, least in ((max(n_cells, MAX_CELLS), MIN_VALUE), (n_cells, 0)):
            for labels in self._labels:
                if left + 1 + self._cells(labels, least) <= self.width:
                    yield left, labels, least

    @property
    def _figure(self) -> tuple[str, str]:
        """What is drawn large, and what stands below it: also the unit of bytes."""
        value, note = self._large.value, self._large.note
        number = value.rstrip(ascii_letters)
        unit = value[len(number) :]
        return (number, f"{unit} {note}") if unit.endswith("B") else (value, note)

    def _digits(self, digits: Sequence[str], note: str, width: int) -> Iterator[TilePart]:
        shown, tile = self._large, self.group.large
        for place, digit in enumerate(digits, 1):
            mark = f" {shown.mark}" if shown.mark and place == len(digits) else ""
            yield TilePart((digit + mark).ljust(width), _kind(shown), tile)
        yield TilePart(note.ljust(width), "label", tile)

    def _titled(self, *, with_trend: bool) -> Line:
        title = TilePart(self.group.title, "title", self.group.large)
        room = min(self.width - len(title.text) - 2, MAX_TREND)
        if with_trend and room >= MIN_TREND:
            return [title, TilePart("  "), *self._trend(room, 1)]
        return [title]

    def _trend(self, width: int, height: int) -> list[TilePart]:
        bars = sparkline(self._large.trend, width, self._large.top, height)
        return [TilePart(line, "trend", self.group.large) for line in bars]

    def in_columns(self) -> list[Line]:
        """Title and large figure, and the others in columns beside both; empty without room."""
        large_value = self._value(self.group.large)
        room = self.width - ROW_VALUE
        fitting = ((each, self._column_cells(each)) for each in self._labels)
        labels, widths = next((each for each in fitting if sum(each[1]) <= room), ([], []))
        if not labels or len(large_value.text) > ROW_VALUE:
            return []
        spare = (room - sum(widths)) // len(widths)
        lines = [
            [TilePart(self.group.title.ljust(ROW_VALUE), "title", self.group.large)],
            [large_value._replace(text=large_value.text.ljust(ROW_VALUE))],
            *([TilePart(" " * ROW_VALUE)] for _ in range(self.height - 2)),
        ]
        for place, label in enumerate(labels):
            column, line = divmod(place, self.height)
            beside = min(widths[column] + spare - 2, MAX_COLUMN)
            lines[line] += [TilePart("  "), *self._stat(place, label, beside)]
        return lines

    def _column_cells(self, labels: Sequence[str]) -> list[int]:
        """What each column takes, with the gap before it, where one is as high as the group."""
        needed = [
            len(label) + 3 + len(self.values[tile.name].text)
            for tile, label in zip(self.group.others, labels, strict=True)
        ]
        height = self.height
        return [max(needed[n : n + height]) for n in range(0, len(needed), height)]

    def in_two_lines(self) -> list[Line]:
        """The title, and below it as many figures as have room."""
        title = TilePart(self.group.title, "title", self.group.large)
        return [[title], self._followed([self._value(self.group.large)])]

    def in_one_line(self) -> Line:
        """As many figures as have room."""
        label = TilePart(f"{self.group.large.labels[0]} ", "label", self.group.large)
        return self._followed([label, self._value(self.group.large)])

    def _followed(self, line: Line) -> Line:
        for tile in self.group.others:
            told = [TilePart(f"  {tile.labels[-1]} ", "label", tile), self._value(tile)]
            if sum(len(part.text) for part in (*line, *told)) > self.width:
                break
            line = [*line, *told]
        return line

    @property
    def _labels(self) -> Iterator[list[str]]:
        """The labels of all but the large one, from the longest to the shortest."""
        for form in range(max(len(tile.labels) for tile in self.group.others)):
            yield [tile.labels[min(form, len(tile.labels) - 1)] for tile in self.group.others]

    def _cells(self, labels: Sequence[str], least: int = MIN_VALUE) -> int:
        """What a column of labels and values takes, with a blank between them."""
        return max(
            len(label) + 1 + max(least, len(self.values[tile.name].text))
            for tile, label in zip(self.group.others, labels, strict=True)
        )

    def _stat(self, place: int, label: str, width: int) -> Line:
        """Label and value at both ends of a column."""
        value = self._value(self.group.others[place])
        return [TilePart(label.ljust(width - len(value.text)), "label", value.tile), value]

    def _value(self, tile: Tile) -> TilePart:
        shown = self.values[tile.name]
        return TilePart(shown.text, _kind(shown), tile)


def _kind(shown: KpiValue) -> str:
    return shown.mood or "value"
