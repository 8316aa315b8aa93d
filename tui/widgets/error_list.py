"""The requests that failed, grouped by how, a line each."""

from __future__ import annotations

import math

import numpy as np

from mlxdeck.telemetry.analyze.sessions import ErrorGroup
from mlxdeck.tui.messages import RequestChosen
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.virtual_list import Cell, VirtualList


class ErrorList(VirtualList):
    """The latest kind first; choosing one opens its latest request."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("errors", id=id)
        self._groups: dict[int, ErrorGroup] = {}
        """By a number that a kind keeps, so that the cursor stays on it."""
        self._numbers: dict[str, int] = {}
        self._day_ts = math.nan

    def show_groups(self, groups: list[ErrorGroup], day_ts: float, version: object) -> None:
        """List these errors. Times on another day than `day_ts` are shown as a date."""
        self._day_ts = day_ts
        numbers = [self._numbers.setdefault(each.kind, len(self._numbers)) for each in groups]
        self._groups = dict(zip(numbers, groups, strict=True))
        self.show(np.array(numbers, np.int64), version)

    def header(self, width: int) -> list[Cell]:
        """Titles, or that all is well."""
        del width
        if not self._groups:
            return [("nothing has failed", "muted")]
        return [(f"{'last':<9}{'times':>6}  kind", "")]

    def cells(self, item: int, width: int) -> list[Cell]:
        """When last, how often, what."""
        group = self._groups[item]
        return [
            (f"{fmt.clock(group.last_ts, self._day_ts)} ", "muted"),
            (f"{group.n:>6,}  ", ""),
            (fmt.one_line(f"✗ {group.kind or 'unknown'}", max(0, width - 17)), "bad"),
        ]

    def chosen(self, item: int) -> None:
        """Ask for the latest of them."""
        self.post_message(RequestChosen(self._groups[item].last_row))
