"""The turns of a session as columns: as high as the prompt, and how much of it was cached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import ERROR, EXACT, OPEN
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import RequestChosen
from mlxdeck.tui.text import format as fmt

Rows = np.ndarray[Any, np.dtype[Any]]
MAX_CELLS = 4
"""So wide is a turn at most, with the gap behind it."""
_EIGHTHS = " ▁▂▃▄▅▆▇█"
COMPUTED = "▒"
"""Not by its colour alone is it another part than what was cached."""


@dataclass(frozen=True, slots=True)
class TurnBar:
    """One column."""

    row: int
    tokens: int
    """Of the prompt; 0 if they are not known."""
    cached: int
    mark: str
    """`✗` of one that failed, `◌` of one that runs; else a blank."""


def turns_of(store: Store, rows: Rows, as_of_ts: float) -> list[TurnBar]:
    """The turns of some requests, in their order; what ended later still runs."""
    later = store.later(rows, as_of_ts)
    outcomes = np.where(later, OPEN, store.column("outcome")[rows])
    tokens = np.where(later, 0, summable(store.column("input_tokens")[rows]))
    exact = store.column("cache")[rows] == EXACT
    cached = np.where(exact, tokens, summable(store.column("cached_tokens")[rows]))
    marks = {ERROR: "✗", OPEN: "◌"}
    return [
        TurnBar(row, n, min(known, n), marks.get(outcome, " "))
        for row, n, known, outcome in zip(
            *(each.tolist() for each in (rows, tokens, cached, outcomes)), strict=True
        )
    ]


class TurnStrip(Widget, can_focus=True):
    """Newest at the right. Enter opens the turn under the cursor."""

    BINDINGS = [
        Binding("left", "move(-1)", "Older", show=False),
        Binding("right", "move(1)", "Newer", show=False),
        Binding("home", "move(-1000000)", "Oldest", show=False),
        Binding("end", "move(1000000)", "Newest", show=False),
        Binding("enter", "choose", "Open", tooltip="See it in full"),
    ]
    COMPONENT_CLASSES = {
        *("strip--cached", "strip--computed", "strip--bad", "strip--muted", "strip--cursor"),
    }
    DEFAULT_CSS = """
    TurnStrip {
        border: round $frame;
        border-title-color: $foreground;
        border-subtitle-color: $dim;
        height: 8;
    }
    TurnStrip:focus { border: round $primary; }
    TurnStrip > .strip--cached { color: $success; }
    TurnStrip > .strip--computed { color: $primary; }
    TurnStrip > .strip--bad { color: $error; text-style: bold; }
    TurnStrip > .strip--muted { color: $dim; }
    TurnStrip > .strip--cursor { color: $foreground; text-style: bold; }
    """

    @dataclass
    class Stepped(Message):
        """The cursor is on another turn."""

        row: int

    def __init__(self, store: Store, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._store = store
        self._rows: Rows = np.zeros(0, np.int64)
        self._as_of_ts = math.inf
        self._cursor = -1
        self._drawn: tuple[int, list[TurnBar]] = (1, [])

    def show(self, rows: Rows, as_of_ts: float, row: int) -> None:
        """Show these requests, oldest first, with the cursor on one of them."""
        self._rows, self._as_of_ts = rows, as_of_ts
        self.select(row)

    def select(self, row: int) -> None:
        """Put the cursor on a request, as far as it is one of these."""
        found = np.flatnonzero(self._rows == row)
        self._cursor = int(found[-1]) if len(found) else len(self._rows) - 1
        self._draw()

    def on_resize(self) -> None:
        """Another width has room for another number of turns."""
        self._draw()

    def _draw(self) -> None:
        width = self.content_size.width
        if width <= 0:
            return
        cells = max(1, min(MAX_CELLS, width // max(1, len(self._rows))))
        n_fit = width // cells
        end = len(self._rows)
        if self._cursor < end - n_fit:
            end = max(n_fit, self._cursor + 1 + n_fit // 4)
            end = min(end, len(self._rows))
        begin = max(0, end - n_fit)
        self._drawn = cells, turns_of(self._store, self._rows[begin:end], self._as_of_ts)
        self.border_subtitle = self._told()
        self.refresh()

    def _told(self) -> str:
        """The turn under the cursor, in words."""
        turn = next((each for each in self._drawn[1] if each.row == self._row), None)
        if turn is None:
            return ""
        place = f"{self._cursor + 1:,} of {len(self._rows):,}"
        if not turn.tokens:
            return place
        share = fmt.percent(turn.cached / turn.tokens)
        return f"{place} · {fmt.count(turn.tokens)} tokens, {share} cached"

    @property
    def _row(self) -> int:
        return int(self._rows[self._cursor]) if len(self._rows) else -1

    def render_line(self, y: int) -> Strip:
        """From top to bottom: the columns, and a line of marks."""
        width, height = self.content_size
        cells, turns = self._drawn
        ground = self.rich_style.bgcolor
        base = Style(bgcolor=ground, color=self.rich_style.color)
        n_bars = height - 1
        if y >= n_bars:
            marks = [self._mark(turn, cells) for turn in turns]
            return Strip([Segment(t, base + s) for t, s in marks]).adjust_cell_length(width, base)
        most = max((turn.tokens for turn in turns), default=0) or 1
        segments = []
        for turn in turns:
            # In eighths of a cell, from the bottom.
            whole = _eighths(turn.tokens, most, n_bars)
            known = whole if turn.cached == turn.tokens else _eighths(turn.cached, most, n_bars)
            text, style = self._cell(whole, known, 8 * (n_bars - 1 - y))
            bar = max(1, cells - 1)
            segments += [Segment(text * bar, base + style), Segment(" " * (cells - bar), base)]
        return Strip(segments).adjust_cell_length(width, base)

    def _cell(self, whole: int, known: int, below: int) -> tuple[str, Style]:
        """One cell of a column; so many eighths stand below it."""
        cached, computed = (
            self.get_component_rich_style(f"strip--{name}").color for name in ("cached", "computed")
        )
        whole, known = (max(0, min(8, each - below)) for each in (whole, known))
        if whole == 8 and 0 < known < 8:
            return _EIGHTHS[known], Style(color=cached, bgcolor=computed)
        if whole == 8 and not known:
            return COMPUTED, Style(color=computed)
        # A cell has two colours, and one of them is the ground above the column.
        colour = cached if known and known * 2 >= whole else computed
        return _EIGHTHS[whole], Style(color=colour)

    def _mark(self, turn: TurnBar, cells: int) -> tuple[str, Style]:
        is_here = turn.row == self._row
        mark = "▲" if is_here and turn.mark == " " else turn.mark
        has_failed = turn.mark == "✗"
        kind = "bad" if has_failed else "cursor" if is_here else "muted"
        style = self.get_component_rich_style(f"strip--{kind}")
        if is_here and has_failed:
            style += Style(reverse=True)
        bar = max(1, cells - 1)
        # Without the component's ground, which is not that of this widget.
        style = Style(color=style.color, bold=style.bold, reverse=style.reverse)
        return (mark * bar).ljust(cells), style

    def action_move(self, step: int) -> None:
        """To an older or a newer turn."""
        self._go(self._cursor + step)

    def _go(self, place: int) -> None:
        if len(self._rows):
            self._cursor = max(0, min(place, len(self._rows) - 1))
            self._draw()
            self.post_message(self.Stepped(self._row))

    def action_choose(self) -> None:
        """Open the turn under the cursor."""
        if self._row >= 0:
            self.post_message(RequestChosen(self._row))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; one on the cursor opens."""
        cells, turns = self._drawn
        place = event.get_content_offset_capture(self).x // cells
        if not 0 <= place < len(turns):
            return
        if turns[place].row == self._row:
            self.action_choose()
        else:
            self._go(int(np.flatnonzero(self._rows == turns[place].row)[-1]))


def _eighths(tokens: int, most: int, n_cells: int) -> int:
    """Height of a part; what is there at all is seen."""
    return max(1, round(tokens / most * n_cells * 8)) if tokens else 0
