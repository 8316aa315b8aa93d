"""All requests, newest first, a line each; the columns are those that the width has room for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from textual import events

from mlxdeck.telemetry.analyze.running_progress import RunningProgress, running_progress
from mlxdeck.telemetry.schema.figures import (
    CACHES,
    ERROR,
    EXACT,
    LOST,
    MISS,
    OK,
    OPEN,
    OUTCOMES,
    PREFIX,
)
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import OrderAsked, RequestChosen
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.text.running_texts import phase
from mlxdeck.tui.widgets import running_cells, time_bars
from mlxdeck.tui.widgets.virtual_list import Cell, VirtualList

_MARKS = {OPEN: ("◌", "accent"), OK: ("✓", "good"), ERROR: ("✗", "bad")}
_OTHER_MARK = ("–", "warn")
_CACHE_MARKS = {EXACT: ("● ", "good"), PREFIX: ("◐ ", "accent"), MISS: ("○ ", "muted")}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its width, how a cell is made, and when it has to go."""

    title: str
    width: int
    cell: Callable[[Store, int], Cell]
    keep: int
    """Columns with the lowest number go first when there is no room."""
    left: bool = False


def _number(name: str) -> Callable[[Store, int], Cell]:
    def cell(store: Store, row: int) -> Cell:
        value = float(store.column(name)[row])
        if value < 0:
            return fmt.UNKNOWN, "muted"
        return (fmt.count(value), "") if value else ("·", "muted")

    return cell


def _seconds(name: str) -> Callable[[Store, int], Cell]:
    def cell(store: Store, row: int) -> Cell:
        value = float(store.column(name)[row])
        return fmt.duration(value), "muted" if np.isnan(value) else ""

    return cell


def _mark(store: Store, row: int) -> Cell:
    return _MARKS.get(int(store.column("outcome")[row]), _OTHER_MARK)


def _time(store: Store, row: int) -> Cell:
    return fmt.clock(float(store.column("start_ts")[row])), "muted"


def _dated(store: Store, row: int) -> Cell:
    return fmt.dated(float(store.column("start_ts")[row])), "muted"


def _session(store: Store, row: int) -> Cell:
    return store.text("session", row)[:8] or "·", "muted"


def _cached(store: Store, row: int) -> Cell:
    total, known = (int(store.column(name)[row]) for name in ("input_tokens", "cached_tokens"))
    if total <= 0 or known < 0:
        return fmt.UNKNOWN, "muted"
    share = known / total
    mark = _CACHE_MARKS.get(int(store.column("cache")[row]), ("  ", ""))[0]
    kind = "good" if share > 0.5 else "" if share > 0 else "muted"
    return f"{mark}{fmt.percent(share):>5}", kind


def _speed(store: Store, row: int) -> Cell:
    speed = tokens_per_s(store, row)
    return fmt.rate(speed), "muted" if np.isnan(speed) else ""


def _cache(store: Store, row: int) -> Cell:
    cache = int(store.column("cache")[row])
    mark, kind = _CACHE_MARKS.get(cache, ("  ", "muted"))
    return mark + CACHES[cache], kind


def _end(store: Store, row: int) -> Cell:
    outcome = int(store.column("outcome")[row])
    if outcome == OK:
        reason = store.text("finish", row)
        return reason, "warn" if reason == "max_tokens" else ""
    if outcome == ERROR:
        status, kind = int(store.column("status")[row]), store.text("error_type", row)
        return kind if status < 0 else f"{status} {kind}", "bad"
    return OUTCOMES[outcome], "accent" if outcome == OPEN else "warn"


COLUMNS = (
    Column("", 1, _mark, 9),
    Column("time", 8, _time, 8, left=True),
    Column("session", 8, _session, 1, left=True),
    Column("in", 5, _number("input_tokens"), 7),
    Column("cached", 7, _cached, 6),
    Column("out", 5, _number("output_tokens"), 5),
    Column("ttft", 5, _seconds("ttft_s"), 4),
    Column("total", 5, _seconds("duration_s"), 9),
    Column("tok/s", 5, _speed, 3),
    Column("tools", 5, _number("n_tool_calls"), 3),
    Column("cache", 8, _cache, 2, left=True),
    Column("end", 10, _end, 7, left=True),
)


_DATED = replace(COLUMNS[1], width=15, cell=_dated)
"""Instead, where there are several days."""
_DOT: Cell = ("·", "muted")
_UNDER_WAY: dict[str, Cell] = {"": _MARKS[OPEN], "end": (OUTCOMES[OPEN], "accent")}
MIN_BAR = 12
"""Cells of the bars that show where a request's time went."""
MAX_END = 20
BAR_KEEP = 5
"""Columns that are less important than this one make room for the bars."""


def fitting(width: int, *, dated: bool = False) -> tuple[list[Column], int]:
    """The columns that fit, the least important left out first, and the cells left for bars."""
    columns = [_DATED if dated and column is COLUMNS[1] else column for column in COLUMNS]
    while len(columns) > 3:
        first = min(columns, key=lambda column: column.keep)
        wanted = MIN_BAR + 1 if first.keep < BAR_KEEP else 0
        if _needed(columns) + wanted <= width:
            break
        columns.remove(first)
    left = width - _needed(columns)
    # What the bars don't take goes to the last column, up to what it can use.
    bar = left - 1 - max(0, min(MAX_END - columns[-1].width, left - 1 - MIN_BAR))
    return columns, bar if bar >= MIN_BAR else 0


def _needed(columns: list[Column]) -> int:
    return sum(column.width + 1 for column in columns)


class RequestTable(VirtualList):
    """The requests of a store."""

    def __init__(self, store: Store, *, id: str | None = None) -> None:
        super().__init__("requests", id=id)
        self._store = store
        self.as_of_ts = math.inf
        """What happened later is not shown."""
        self.now_ts = math.nan
        """The present, for the elapsed time of running requests."""
        self.marked = -1
        """The request that another one is to be compared with."""

    def header(self, width: int) -> list[Cell]:
        """The titles, aligned as their columns."""
        columns, bar = self._fitting(width)
        titles = [(text, "") for text in _line(columns, width - bar, lambda c: c.title)]
        if not bar:
            return titles
        return [*titles, *time_bars.legend(self._scale_s, bar)]

    def cells(self, item: int, width: int) -> list[Cell]:
        """One request."""
        columns, bar = self._fitting(width)
        is_later = self._later(item)
        runs = is_later or int(self._store.column("outcome")[item]) == OPEN
        if is_later:
            made = {column.title: _UNDER_WAY.get(column.title, _DOT) for column in columns}
            for column in columns:
                if column.title in ("time", "session"):
                    made[column.title] = column.cell(self._store, item)
        else:
            made = {column.title: column.cell(self._store, item) for column in columns}
            if int(self._store.column("outcome")[item]) == LOST:
                made |= self._lost(item)
        running = self._reported(item) if runs else None
        if running is not None:
            made |= running_cells.known(running)
        if runs and "total" in made:
            elapsed_s = self.now_ts - float(self._store.column("start_ts")[item])
            made["total"] = (fmt.duration(max(0.0, elapsed_s)), "accent")
        if item == self.marked:
            made[""] = ("A", "accent")
        texts = _line(columns, width - bar, lambda column: made[column.title][0])
        cells = [(text, made[column.title][1]) for column, text in zip(columns, texts, strict=True)]
        if bar and running is not None:
            return cells + running_cells.bar(running, bar - 1)
        if not bar or runs:
            return cells
        return cells + time_bars.bar(self._store, item, bar, self._scale_s)

    def grows(self, item: int) -> bool:
        """Its time so far."""
        return int(self._store.column("outcome")[item]) == OPEN

    def _lost(self, row: int) -> dict[str, Cell]:
        """How far a request was whose server went; its other cells are of its last report too."""
        start_ts, end_ts = (float(self._store.column(name)[row]) for name in ("start_ts", "end_ts"))
        of, word = running_progress(self._store, row, end_ts), OUTCOMES[LOST]
        told = word if of is None else f"{word} {phase(of)}"
        return {"total": (fmt.duration(end_ts - start_ts), "warn"), "end": (told, "warn")}

    @property
    def _scale_s(self) -> float:
        """What a full bar is long: the longest time of the lines that are seen."""
        last = self.n_items - self.scroll_offset.y
        seen = self._items[max(0, last - self.scrollable_content_region.height) : max(0, last)]
        if len(seen):
            seen = seen[~self._store.later(seen, self.as_of_ts)]
        return time_bars.scale_of(self._store.column("duration_s")[seen].tolist())

    def _fitting(self, width: int) -> tuple[list[Column], int]:
        return fitting(width, dated=fmt.days_apart(self._store.first_ts, self.now_ts))

    def _later(self, row: int) -> bool:
        """Whether the request ended after the shown moment."""
        return bool(self._store.later(np.array([row]), self.as_of_ts)[0])

    def _reported(self, row: int) -> RunningProgress | None:
        return running_progress(self._store, row, min(self.as_of_ts, self.now_ts))

    def chosen(self, item: int) -> None:
        """Ask for this request's screen."""
        self.post_message(RequestChosen(item))

    def on_click(self, event: events.Click) -> None:
        """A click on a title asks for an order by it; the rest is as in any list."""
        offset = event.get_content_offset_capture(self)
        if offset.y == 0:
            self.post_message(OrderAsked(self._title_at(offset.x)))
            event.prevent_default()

    def _title_at(self, x: int) -> str:
        columns, _ = self._fitting(self.scrollable_content_region.width)
        ends = np.cumsum([column.width + 1 for column in columns])
        return columns[min(int(np.searchsorted(ends, x, side="right")), len(columns) - 1)].title


def _line(columns: list[Column], width: int, text_of: Callable[[Column], str]) -> list[str]:
    """The texts of one line, each as wide as its column; the last one fills the rest."""
    left = width - sum(column.width + 1 for column in columns[:-1])
    widths = [*(column.width for column in columns[:-1]), max(columns[-1].width, left - 1)]
    return [
        _aligned(text_of(column), room, left=column.left)
        for column, room in zip(columns, widths, strict=True)
    ]


def _aligned(text: str, width: int, *, left: bool) -> str:
    return (fmt.filled(text, width) if left else fmt.one_line(text, width).rjust(width)) + " "


def tokens_per_s(store: Store, row: int) -> float:
    """How fast one request was generated; NaN if there is nothing to go by."""
    tokens = float(store.column("output_tokens")[row])
    seconds = float(store.column("decode_s")[row])
    return (tokens - 1) / seconds if tokens > 1 and seconds > 0 else float(np.nan)
