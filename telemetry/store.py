"""Requests as columns: one row each, numpy arrays that grow, strings by number.

Fed with records in the order they were written; knows nothing of time windows or drawing. A row is
there from a request's first line on; what comes later fills it in. For one thread.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mlxdeck.telemetry import events as t
from mlxdeck.telemetry.tail import Record

OPEN, OK, ERROR, CANCELLED, LOST = range(5)
OUTCOMES = ("open", "ok", "error", "cancelled", "lost")
"""`lost`: its server stopped without saying how it ended."""
NO_CACHE, MISS, PREFIX, EXACT = range(4)
CACHES = ("", "miss", "prefix", "exact")
MAX_TOOL_CALLS = 20_000
MAX_TICKS = 100_000

_COLUMNS: dict[str, tuple[Any, float]] = {
    "start_ts": (np.float64, np.nan),
    "end_ts": (np.float64, np.nan),
    "duration_s": (np.float32, np.nan),
    "ttft_s": (np.float32, np.nan),
    "queue_s": (np.float32, 0),
    "tokenize_s": (np.float32, 0),
    "cache_s": (np.float32, 0),
    "prefill_s": (np.float32, 0),
    "decode_s": (np.float32, 0),
    "input_tokens": (np.int32, 0),
    "cached_tokens": (np.int32, 0),
    "output_tokens": (np.int32, 0),
    "status": (np.int16, 0),
    "outcome": (np.int8, OPEN),
    "cache": (np.int8, NO_CACHE),
    "n_tool_calls": (np.int16, 0),
    "finish": (np.int32, 0),
    "session": (np.int32, 0),
    "model": (np.int32, 0),
    "error_type": (np.int32, 0),
    "last_place": (np.int32, -1),
}
_PHASES = ("queue_s", "tokenize_s", "cache_s", "prefill_s", "decode_s")


class Strings:
    """Texts by number; 0 is the empty one."""

    def __init__(self) -> None:
        self._numbers = {"": 0}
        self._texts = [""]

    def number(self, text: str) -> int:
        """The number of a text, a new one if need be."""
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number

    def __getitem__(self, number: int) -> str:
        return self._texts[number]


class ToolCallRow(NamedTuple):
    """A tool call, as the list of calls shows it."""

    ts: float
    row: int
    call: t.ToolCall


class TickRow(NamedTuple):
    """A tick and when it was."""

    ts: float
    tick: t.Tick


_Row = TypeVar("_Row", ToolCallRow, TickRow)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line of a request stands."""

    path: Path
    offset: int


class Store:
    """Every request that a stream tells of."""

    def __init__(self) -> None:
        self.n = 0
        self._arrays = {name: np.full(1024, fill, kind) for name, (kind, fill) in _COLUMNS.items()}
        self.strings = Strings()
        self.request_ids: list[str] = []
        self._rows: dict[str, int] = {}
        # A chain of lines for each request, 16 bytes a line.
        self._offsets = array("q")
        self._files = array("i")
        self._previous = array("i")
        self._last_path: Path | None = None
        self._last_file = 0
        self._open: dict[int, int] = {}
        self.tool_calls: list[ToolCallRow] = []
        self.ticks: list[TickRow] = []
        self.header: t.StreamStart | None = None
        self.first_ts = 0.0
        self.last_ts = 0.0
        self.n_lines = 0
        self.n_unknown = 0
        """Lines of an event that this version doesn't know."""
        self.n_dropped = 0
        """Lines that the server says it could not write."""

    def column(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """One column over all rows; a view that the next `feed` may outdate."""
        return self._arrays[name][: self.n]

    def text(self, name: str, row: int) -> str:
        """A cell of a column of texts."""
        return self.strings[int(self._arrays[name][row])]

    @property
    def open_rows(self) -> list[int]:
        """Requests that have begun and not ended."""
        return list(self._open)

    def places(self, row: int) -> list[Place]:
        """Where the lines of a request stand, in their order."""
        places, at = [], int(self._arrays["last_place"][row])
        while at >= 0:
            path = Path(self.strings[int(self._files[at])])
            places.append(Place(path, int(self._offsets[at])))
            at = int(self._previous[at])
        return places[::-1]

    def row_of(self, request_id: str) -> int | None:
        """The row of a request, if there is such a one."""
        return self._rows.get(request_id)

    def feed(self, records: Iterable[Record]) -> int:
        """Take in more records; return how many there were."""
        n_before = self.n_lines
        for record in records:
            self._take(record)
        return self.n_lines - n_before

    def _take(self, record: Record) -> None:
        line = record.line
        self.n_lines += 1
        ts = line.ts
        if ts > self.last_ts:
            self.last_ts = ts
        if ts < self.first_ts or not self.first_ts:
            self.first_ts = ts
        if line.request_id:
            self._take_of_request(self._row(record), line)
            return
        match line.attrs:
            case t.Tick() as tick:
                _put(self.ticks, TickRow(line.ts, tick))
                self.n_dropped = max(self.n_dropped, tick.dropped_lines)
                del self.ticks[:-MAX_TICKS]
            case t.StreamStart() as header:
                self.header = header
            case t.ServerStop() as stop:
                self.n_dropped = max(self.n_dropped, stop.dropped_lines)
                self._lose(line.pid)
            case None:
                self.n_unknown += 1

    def _take_of_request(self, row: int, line: t.Line) -> None:
        match line.attrs:
            case t.RequestStart() as start:
                self._begin(row, line, start)
            case t.RequestEnd() as end:
                self._end(row, line, end)
            case t.FirstToken() as first:
                self._arrays["ttft_s"][row] = first.ttft_s
            case None:
                self.n_unknown += 1
            case t.ToolCall() as call:
                _put(self.tool_calls, ToolCallRow(line.ts, row, call))
                del self.tool_calls[:-MAX_TOOL_CALLS]

    def _row(self, record: Record) -> int:
        line = record.line
        row = self._rows.get(line.request_id)
        if row is None:
            row = self._rows[line.request_id] = self._add(line.request_id)
            self._arrays["start_ts"][row] = line.ts
            self._open[row] = line.pid
        self._note_place(row, record)
        return row

    def _note_place(self, row: int, record: Record) -> None:
        """Chain the line to the one before it of the same request."""
        if record.path is not self._last_path:
            self._last_path, self._last_file = record.path, self.strings.number(str(record.path))
        last = self._arrays["last_place"]
        self._previous.append(int(last[row]))
        last[row] = len(self._offsets)
        self._offsets.append(record.offset)
        self._files.append(self._last_file)

    def _add(self, request_id: str) -> int:
        if self.n == len(self._arrays["start_ts"]):
            for name, array in self._arrays.items():
                kind, fill = _COLUMNS[name]
                self._arrays[name] = np.concatenate([array, np.full(len(array), fill, kind)])
        self.n += 1
        self.request_ids.append(request_id)
        return self.n - 1

    def _begin(self, row: int, line: t.Line, start: t.RequestStart) -> None:
        self._arrays["session"][row] = self.strings.number(line.session_id)
        self._arrays["model"][row] = self.strings.number(start.model)

    def _end(self, row: int, line: t.Line, end: t.RequestEnd) -> None:
        arrays = self._arrays
        self._open.pop(row, None)
        arrays["end_ts"][row] = line.ts
        arrays["duration_s"][row] = end.duration_s
        if end.ttft_s:
            arrays["ttft_s"][row] = end.ttft_s
        for name in _PHASES:
            arrays[name][row] = getattr(end, name)
        arrays["input_tokens"][row] = end.input_tokens
        arrays["cached_tokens"][row] = end.cached_tokens
        arrays["output_tokens"][row] = end.output_tokens
        arrays["status"][row] = end.status
        arrays["outcome"][row] = OUTCOMES.index(end.outcome) if end.outcome in OUTCOMES else OK
        arrays["cache"][row] = CACHES.index(end.cache_result) if end.cache_result in CACHES else 0
        arrays["n_tool_calls"][row] = end.n_tool_calls
        arrays["finish"][row] = self.strings.number(", ".join(end.finish_reasons))
        arrays["error_type"][row] = self.strings.number(end.error_type)

    def _lose(self, pid: int) -> None:
        for row in [row for row, owner in self._open.items() if owner == pid]:
            del self._open[row]
            self._arrays["outcome"][row] = LOST


def _put(rows: list[_Row], row: _Row) -> None:
    """In the order of time, also where streams that ran beside each other are read in turn."""
    if rows and row.ts < rows[-1].ts:
        insort(rows, row, key=lambda each: each.ts)
    else:
        rows.append(row)
