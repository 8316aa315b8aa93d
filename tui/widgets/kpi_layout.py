"""Where the figures of a group stand, by the room that there is: pure.

Nothing is cut: what has no room is left out, the last ones first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mlxdeck.tui.widgets.large_digits import HEIGHT, MAX_CELLS, large
from mlxdeck.tui.widgets.sparkline import sparkline
from mlxdeck.tui.widgets.tiles import KpiValue, Tile, TileGroup

MIN_VALUE = 5
"""Cells that a value has at least, so that labels stay where they are as it grows."""
MIN_TREND, MAX_TREND = 8, 60
MAX_COLUMN = 26
ROW_VALUE = 12
"""Cells of the large figure where it is no larger than the others."""


class Part(NamedTuple):
    """A stretch of a line: its text, the component class that styles it, whose it is."""

    text: str
    kind: str = ""
    tile: Tile | None = None


Line = list[Part]


def laid_out(
    group: TileGroup, values: Mapping[str, KpiValue], width: int, height: int
) -> list[Line]:
    """The lines of a group, none longer than `width`."""
    if height > HEIGHT + 1 and (found := _with_digits(group, values, width, height)):
        return found
    if height > 1:
        return _in_rows(group, values, width, height)
    title = Part(f"{group.large.labels[0]} ", "label", group.large)
    return [_followed([title, _value(group.large, values)], group.others, values, width)]


def _with_digits(
    group: TileGroup, values: Mapping[str, KpiValue], width: int, height: int
) -> list[Line]:
    """Large digits, the other figures beside them, and the trend in what is left."""
    shown = values[group.large.name]
    digits = large(shown.value)
    left = max(len(digits[0]) + (2 if shown.mark else 0), MAX_CELLS)
    labels = next(
        (found for found in _labels(group.others) if left + 1 + _cells(group.others, found, values) <= width),
        None,
    )
    if labels is None:
        return []
    beside = min(max(_cells(group.others, labels, values), width // 4), MAX_COLUMN)
    between = 1 if left + 2 + beside > width else 2
    rest = width - left - between - beside
    area = rest - 2 if rest - 2 >= MIN_TREND else 0
    trend = sparkline(shown.trend, min(area, MAX_TREND), shown.top, height - 1) if area else []
    marks = ("", "", f" {shown.mark}" if shown.mark else "")
    firsts = [
        *(Part((digit + mark).ljust(left), _kind(shown), group.large)
          for digit, mark in zip(digits, marks, strict=True)),
        Part(shown.note[:left].ljust(left), "label", group.large),
    ]  # fmt: skip
    lines = [_titled(group, shown, width, is_drawn=not area)]
    for place, first in enumerate(firsts):
        line = [first, Part(" " * between)]
        if place < len(labels):
            line += _stat(group.others[place], labels[place], values, beside)
        if trend and place < len(trend):
            line += [Part("  "), Part(trend[place], "trend", group.large)]
        lines.append(line)
    return lines


def _titled(group: TileGroup, shown: KpiValue, width: int, *, is_drawn: bool) -> Line:
    title = [Part(group.title, "title", group.large)]
    room = min(width - len(group.title) - 2, MAX_TREND)
    if is_drawn and room >= MIN_TREND:
        bars = sparkline(shown.trend, room, shown.top)[0]
        title += [Part("  "), Part(bars, "trend", group.large)]
    return title


def _in_rows(
    group: TileGroup, values: Mapping[str, KpiValue], width: int, height: int
) -> list[Line]:
    """The large figure below the title, the others in columns beside both."""
    large_value = _value(group.large, values)
    for labels in _labels(group.others):
        n_columns = -(-len(labels) // height)
        beside = min((width - ROW_VALUE) // n_columns - 2, MAX_COLUMN)
        if _cells(group.others, labels, values, least=0) > beside or len(large_value.text) > ROW_VALUE:
            continue
        lines = [
            [Part(group.title.ljust(ROW_VALUE), "title", group.large)],
            [large_value._replace(text=large_value.text.ljust(ROW_VALUE))],
            *([Part(" " * ROW_VALUE)] for _ in range(height - 2)),
        ]
        for place, label in enumerate(labels):
            lines[place % height] += [
                Part("  "),
                *_stat(group.others[place], label, values, beside),
            ]
        return lines
    title = [Part(group.title, "title", group.large)]
    return [title, _followed([large_value], group.others, values, width)]


def _followed(
    line: Line, others: Iterable[Tile], values: Mapping[str, KpiValue], width: int
) -> Line:
    """A line with as many other figures as it has room for."""
    line = list(line)
    for tile in others:
        told = [Part(f"  {tile.labels[-1]} ", "label", tile), _value(tile, values)]
        if sum(len(part.text) for part in (*line, *told)) > width:
            break
        line += told
    return line


def _labels(tiles: Sequence[Tile]) -> list[list[str]]:
    """The labels of some tiles, from the longest to the shortest ones."""
    n_forms = max(len(tile.labels) for tile in tiles)
    return [[tile.labels[min(form, len(tile.labels) - 1)] for tile in tiles]
            for form in range(n_forms)]  # fmt: skip


def _cells(
    tiles: Sequence[Tile],
    labels: Sequence[str],
    values: Mapping[str, KpiValue],
    least: int = MIN_VALUE,
) -> int:
    """What a column of labels and values takes, with a blank between them."""
    return max(
        len(label) + 1 + max(least, len(values[tile.name].text))
        for tile, label in zip(tiles, labels, strict=True)
    )


def _stat(tile: Tile, label: str, values: Mapping[str, KpiValue], width: int) -> Line:
    """Label and value at both ends of a column."""
    value = _value(tile, values)
    return [Part(label.ljust(width - len(value.text)), "label", tile), value]


def _value(tile: Tile, values: Mapping[str, KpiValue]) -> Part:
    return Part(values[tile.name].text, _kind(values[tile.name]), tile)


def _kind(shown: KpiValue) -> str:
    return shown.mood or "value"
