"""The tools that were called, a line each: how often, what went wrong, how long, how large."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from textual.binding import Binding

from mlxdeck.telemetry.analyze.usage import ToolUses
from mlxdeck.telemetry.query.fields import called_by
from mlxdeck.tui.messages import FilterChanged
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.virtual_list import Cell, VirtualList, fitting_columns

UNREADABLE = "(unreadable)"
MIN_NAME, MAX_NAME = 10, 32


@dataclass(frozen=True, slots=True)
class ToolColumn:
    """A column after the name; the table can be sorted by it."""

    title: str
    value: Callable[[ToolUses, float], float]
    """Of a tool's calls and the tokens of its description; NaN if it is not known."""
    text: Callable[[float], str]
    keep: int
    """Columns with the lowest number go first when there is no room."""
    kind: str = ""
    """How a value above 0 is drawn."""
    mark: str = ""

    @property
    def width(self) -> int:
        """With a blank on the left, and room for a mark on the right."""
        return max(7, len(self.title) + 2)


COLUMNS = (
    ToolColumn("calls", lambda uses, _: uses.n, fmt.count, 9),
    ToolColumn("unread.", lambda uses, _: uses.n_unreadable, fmt.count, 6, "bad", "✗"),
    ToolColumn("invalid", lambda uses, _: uses.n_invalid, fmt.count, 2, "bad", "✗"),
    ToolColumn("repaired", lambda uses, _: uses.n_repaired, fmt.count, 5, "warn", "±"),
    ToolColumn("failed", lambda uses, _: _failed(uses), fmt.count, 8, "bad", "✗"),
    ToolColumn("P95", lambda uses, _: uses.p95_s, fmt.duration, 7),
    ToolColumn("args", lambda uses, _: uses.argument_bytes, fmt.size, 3),
    ToolColumn("schema", lambda _, tokens: tokens, fmt.count, 4),
)


class ToolTable(VirtualList):
    """Choosing a tool shows the requests that called it."""

    BINDINGS = [Binding("o", "order", "Order", tooltip="Most calls, failures, slowest first")]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("tools", id=id)
        self._tools: dict[int, tuple[str, ToolUses, float]] = {}
        """By a number that a tool keeps, so that the cursor stays on it."""
        self._numbers: dict[str, int] = {}
        self._order = 0
        self._told: object = None
        self.scope = ""

    def show_tools(
        self, tools: Mapping[str, ToolUses], tokens: Mapping[str, int], version: object
    ) -> None:
        """List the calls of each tool, and the tokens of its description."""
        self._told = version
        self._tools = {
            self._numbers.setdefault(name, len(self._numbers)): (
                name or UNREADABLE,
                uses,
                float(tokens.get(name, math.nan)),
            )
            for name, uses in tools.items()
        }
        self._sort()

    def _sort(self) -> None:
        value = COLUMNS[self._order].value

        def key(number: int) -> tuple[float, int, int]:
            _, uses, tokens = self._tools[number]
            found = value(uses, tokens)
            return (-1.0 if math.isnan(found) else found, uses.n, -number)

        self.first_word = f"most {COLUMNS[self._order].title}"
        items = np.array(sorted(self._tools, key=key), np.int64)
        self.show(items, (self._told, self._order))

    def action_order(self) -> None:
        """Sort by the next column."""
        shown = _fitting(self.scrollable_content_region.width)
        after = [n for n, column in enumerate(COLUMNS) if column in shown and n > self._order]
        self._order = after[0] if after else 0
        self._sort()
        self.action_newest()

    def header(self, width: int) -> list[Cell]:
        """Titles, or that nothing was called."""
        if not self._tools:
            return [(fmt.one_line("no calls in this window", width), "muted")]
        columns = _fitting(width)
        titles = [
            (
                f"{column.title}{'↓' if column is COLUMNS[self._order] else ' '}".rjust(
                    column.width
                ),
                "",
            )
            for column in columns
        ]
        return [("tool".ljust(_name_width(width, columns)), ""), *titles]

    def cells(self, item: int, width: int) -> list[Cell]:
        """One tool."""
        name, uses, tokens = self._tools[item]
        columns = _fitting(width)
        room = _name_width(width, columns)
        kind = "bad" if name == UNREADABLE else ""
        cells: list[Cell] = [(fmt.filled(name, room - 1) + " ", kind)]
        for column in columns:
            value = column.value(uses, tokens)
            is_fault = bool(column.kind) and value > 0
            mark = column.mark if is_fault else " "
            text = f"{column.text(value)}{mark}".rjust(column.width)
            muted = "muted" if math.isnan(value) or not value else ""
            cells.append((text, column.kind if is_fault else muted))
        return cells

    def chosen(self, item: int) -> None:
        """Show the requests that called it."""
        name = self._tools[item][0]
        self.post_message(FilterChanged(called_by("" if name == UNREADABLE else name)))


def _failed(uses: ToolUses) -> float:
    return uses.n_failed if uses.n_results else math.nan


def _fitting(width: int) -> list[ToolColumn]:
    return fitting_columns(COLUMNS, width - MIN_NAME)


def _name_width(width: int, columns: list[ToolColumn]) -> int:
    return max(1, min(MAX_NAME, width - sum(column.width for column in columns)))
