"""Requests as columns: one row each, numpy arrays that grow, strings by number.

Fed with batches of lines in any order; knows nothing of time windows or drawing. A row is there
from a request's first line on; what comes later fills it in. For one thread.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxdeck.telemetry.columns.column_set import ColumnSet
from mlxdeck.telemetry.columns.growable_array import GrowableArray, unknown
from mlxdeck.telemetry.columns.record_batch import Calls, Ends, RecordBatch, Starts
from mlxdeck.telemetry.read.fast_decode import DecodedTick
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.argument_search import ArgumentSearch
from mlxdeck.telemetry.store.bounded_history import BoundedHistory, TickRow, ToolCallRow
from mlxdeck.telemetry.store.call_columns import CallColumns
from mlxdeck.telemetry.store.call_results import CallResults
from mlxdeck.telemetry.store.dropped_lines import DroppedLines
from mlxdeck.telemetry.store.id_index import IdIndex
from mlxdeck.telemetry.store.progress_history import ProgressHistory
from mlxdeck.telemetry.store.server_history import ServerHistory
from mlxdeck.telemetry.store.shared_ids import SharedIds
from mlxdeck.telemetry.store.string_table import StringTable, TextTest
from mlxdeck.telemetry.store.table import COLUMNS, RunningRows, SomeRows, Table
from mlxdeck.telemetry.store.time_index import TimeIndex
from mlxdeck.telemetry.store.unended_requests import UnendedRequests

MAX_TOOL_CALLS = 20_000
MAX_TICKS = 100_000
MAX_SAID = 8
"""So many searches are remembered that no filter asks for any more."""
BETWEEN_TOOLS = "\n"
_ALWAYS_TOLD = {"start_ts", "end_ts", "outcome", "shared_tokens"}


@dataclass(frozen=True, slots=True)
class FileSpan:
    """A file's range with a request's lines: where the first and the last line begin.

    Lines of other requests may be in between.
    """

    path: Path
    first: int
    last: int


class Store:
    """Every request of the streams."""

    def __init__(self) -> None:
        self._columns = ColumnSet(COLUMNS, _ALWAYS_TOLD)
        self.strings = StringTable()
        self.ids = IdIndex()
        self.by_start = TimeIndex()
        self.by_end = TimeIndex()
        self._lists: dict[tuple[int, int], int] = {}
        """Numbers of lists of names, by that of a list and of the name that came to it."""
        self._elsewhere: dict[int, list[FileSpan]] = {}
        """For requests with lines in more than one file: the ranges outside `file`."""
        self.servers = ServerHistory()
        self.tool_calls = BoundedHistory(MAX_TOOL_CALLS, ToolCallRow)
        self.calls = CallColumns()
        self.progress = ProgressHistory(self.strings)
        self.shared_ids = SharedIds(self.ids, self._columns)
        self._unended = UnendedRequests(self._columns, self.by_end, self.servers, self.progress)
        self.results = CallResults(self.calls)
        self.ticks = BoundedHistory(MAX_TICKS, TickRow)
        self._arguments = ArgumentSearch(self.tool_calls)
        self._said: dict[str, set[str]] = {}
        self.n_found = 0
        """How often a text search has found more; results of filters are then out of date."""
        self.first_ts = 0.0
        self.last_ts = 0.0
        self.n_lines = 0
        self.n_rewritten = 0
        """How often a line of an ended request arrived; computed results are then out of date."""
        self.n_unknown = 0
        """Lines of an event that this version doesn't know."""
        self.dropped = DroppedLines()
        self._latest_told: object = None
        self._latest_ends: GrowableArray = np.zeros(0)
        """For each request in the order of their starts the latest end of those up to it."""
        self.n_looked = 0
        """Requests that were looked at for whether they ran at a moment."""

    @property
    def n(self) -> int:
        """How many requests there are."""
        return self.ids.n

    def column(self, name: str) -> GrowableArray:
        """One column over all rows; a view that the next `feed` may outdate."""
        return self._columns[name]

    def text(self, name: str, row: int) -> str:
        """A cell of a column of texts."""
        return self.strings[int(self._columns[name][row])]

    def names(self) -> GrowableArray:
        """The requests' ids over all rows, as UTF-8."""
        return self.ids.texts()

    def some(self, rows: GrowableArray) -> Table:
        """Some requests."""
        return SomeRows(self, rows)

    def running(self, rows: GrowableArray) -> Table:
        """Some requests as they were before they ended."""
        return RunningRows(self, rows)

    @property
    def n_open(self) -> int:
        """How many requests have begun and not ended."""
        return len(self._unended.running)

    def later(self, rows: GrowableArray, ts: float) -> GrowableArray:
        """Which of some rows ended, or were lost, only after a moment."""
        return np.asarray(self.column("end_ts")[rows] > ts)

    def ended_after(self, ts: float) -> GrowableArray:
        """The requests that had begun by a moment, and ended, or were lost, only after it."""
        begun, ends_ts = self.by_start.rows[: self.by_start.until(ts)], self.column("end_ts")
        told = (self.n_lines, self.n_open)
        if told != self._latest_told:
            ends = np.nan_to_num(ends_ts[self.by_start.rows], nan=-math.inf)
            self._latest_ends, self._latest_told = np.maximum.accumulate(ends), told
        # All in front of them had ended.
        rows = begun[np.searchsorted(self._latest_ends, ts, side="right") :]
        self.n_looked += len(rows)
        return np.asarray(rows[ends_ts[rows] > ts])

    def stopped_ts(self, pid: int) -> float:
        """When a server's process stopped, as far as it is known; 0 if it still runs."""
        return self.servers.stopped_ts(pid)

    @property
    def header(self) -> t.StreamStart | None:
        """What the server that was started last says of itself."""
        return self.servers.header

    @property
    def open_rows(self) -> list[int]:
        """Requests that have begun and not ended."""
        return list(self._unended.running)

    def note_said(self, text: str, request_ids: Iterable[str]) -> None:
        """A search has found that these requests say a text."""
        self._said.setdefault(text, set()).update(request_ids)
        self.n_found += 1

    def forget_said(self, wanted: Collection[str]) -> None:
        """Drop what searches have found, but for some texts and the latest ones."""
        others = [text for text in self._said if text not in wanted]
        for text in others[:-MAX_SAID]:
            del self._said[text]

    def saying(self, text: str) -> GrowableArray:
        """For each row whether it says a text, as far as that was searched for."""
        found = np.zeros(self.n, bool)
        if names := self._said.get(text):
            rows = self.ids.found(np.array([name.encode() for name in names], "S"))
            found[rows[rows >= 0]] = True
        return found

    def called_with(self, pattern: TextTest, part: str) -> GrowableArray:
        """For each row whether it called a tool so; as `Table` has it."""
        found = np.zeros(self.n, bool)
        found[self._arguments.rows(pattern, part)] = True
        return found

    def states(self, now_ts: float) -> GrowableArray:
        """For each row its last state up to a moment, as `Table` has it."""
        return self.progress.states(self.n, now_ts)

    def session_starts(self) -> GrowableArray:
        """For each row whether it is the first request of its session; not of those without."""
        sessions, last_first = self.column("session"), self.by_start.rows[::-1]
        first = np.full(len(self.strings), -1, np.int32)
        first[sessions[last_first]] = last_first
        # 0 is no session.
        found = np.zeros(self.n, bool)
        found[first[1:][first[1:] >= 0]] = True
        return found

    def spans(self, row: int) -> list[FileSpan]:
        """The ranges of files with a request's lines, sorted by file name."""
        file, first, last = (
            int(self._columns[name][row]) for name in ("file", "first_offset", "last_offset")
        )
        own = FileSpan(Path(self.strings[file]), first, last)
        return sorted([own, *self._elsewhere.get(row, ())], key=lambda span: span.path.name)

    @property
    def in_several_files(self) -> Collection[int]:
        """Requests with lines in more than one file."""
        return self._elsewhere.keys()

    def lost_with(self, row: int) -> int:
        """The process with which a lost request was lost."""
        return self._unended.process(row)

    def row_of(self, request_id: str) -> int | None:
        """The row of a request, if there is such a one."""
        return self.ids.number(request_id)

    def feed(self, batches: Iterable[RecordBatch]) -> int:
        """Take in more lines; return how many there were."""
        n_before = self.n_lines
        for batch in batches:
            self._take(batch)
        return self.n_lines - n_before

    def _take(self, batch: RecordBatch) -> None:
        self.n_lines += batch.n_lines
        self.n_unknown += batch.n_unknown
        self._unended.heard(batch.heard)
        self.servers.heard(batch.heard)
        first_ts = self.first_ts if self.last_ts else batch.first_ts
        self.first_ts = min(first_ts, batch.first_ts)
        self.last_ts = max(self.last_ts, batch.last_ts)
        rows = self._rows(batch)
        self._tell(batch.starts, rows)
        shared = batch.shared
        self._columns.put("shared_tokens", rows[shared.owners], shared.shared_tokens)
        self._end(batch, rows)
        self._call(batch, rows)
        self.results.came(batch.results)
        self._tick(batch.ticks)
        reported = rows[batch.progress.owners]
        self.progress.add(batch.progress, reported)
        self._unended.reported(reported.tolist())
        for header in batch.headers:
            self.servers.began(header.ts, header.pid, header.attrs)
        for stop in batch.stops:
            self.dropped.note(stop.pid, stop.ts, stop.attrs.dropped_lines)
            self.servers.ended(stop.ts, stop.pid)
        self.lose_silent()
        self.n_rewritten += self._unended.look_again(batch.heard)

    def _tick(self, ticks: Sequence[DecodedTick]) -> None:
        times, pids = np.array([line.ts for line in ticks]), np.array([line.pid for line in ticks])
        self.ticks.add(times, pids, [line.attrs for line in ticks])
        for tick in ticks:
            self.dropped.note(tick.pid, tick.ts, tick.attrs.dropped_lines)

    def _rows(self, batch: RecordBatch) -> GrowableArray:
        """The row of each request of a batch, with its beginning and its place noted."""
        requests, n_before = batch.requests, self.n
        columns, file = self._columns, self.strings.number(str(batch.path))
        self.shared_ids.heard(file, batch.heard)
        rows = self.shared_ids.rows(requests, set(batch.starts.owners.tolist()))
        columns.grow(self.n)
        new = rows >= n_before
        fresh = rows[new]
        columns.put("start_ts", fresh, requests.begun_ts[new])
        columns.put("first_offset", fresh, requests.first_offsets[new])
        columns.put("last_offset", fresh, requests.last_offsets[new])
        columns.put("file", fresh, file)
        columns.put("session", rows, self.strings.numbers(requests.sessions, "session"))
        self.by_start.add(fresh, requests.begun_ts[new])
        stays = new.copy()
        stays[batch.ends.owners] = False
        for place in np.flatnonzero(stays).tolist():
            self._unended.began(int(rows[place]), int(requests.pids[place]))
        for place in np.flatnonzero(~new).tolist():
            self._note(int(rows[place]), batch, place, file)
        known = zip(rows[~new].tolist(), requests.begun_ts[~new].tolist(), strict=True)
        self._unended.find_again(known)
        return rows

    def _note(self, row: int, batch: RecordBatch, place: int, file: int) -> None:
        """More lines of a known request; they may be earlier, or in another file."""
        requests, columns = batch.requests, self._columns
        self.n_rewritten += row not in self._unended.running
        if requests.begun_ts[place] < columns["start_ts"][row]:
            columns.put("start_ts", row, requests.begun_ts[place])
            self.by_start.move([row], [requests.begun_ts[place]])
        first, last = int(requests.first_offsets[place]), int(requests.last_offsets[place])
        if columns["file"][row] == file:
            columns.put("first_offset", row, min(first, columns["first_offset"][row]))
            columns.put("last_offset", row, max(last, columns["last_offset"][row]))
            return
        others = {span.path: span for span in self._elsewhere.get(row, ())}
        known = others.get(batch.path, FileSpan(batch.path, first, last))
        others[batch.path] = FileSpan(batch.path, min(first, known.first), max(last, known.last))
        self._elsewhere[row] = list(others.values())

    def _end(self, batch: RecordBatch, rows: GrowableArray) -> None:
        ends = batch.ends
        if not len(ends.owners):
            return
        ended = rows[ends.owners]
        before = self._columns["end_ts"][ended]
        self._tell(ends, rows)
        self._columns.put("end_ts", ended, ends.ts)
        fresh, moved = np.isnan(before), before != ends.ts
        self.by_end.add(ended[fresh], ends.ts[fresh])
        if np.any(moved & ~fresh):
            self.by_end.move(ended[moved & ~fresh], ends.ts[moved & ~fresh])
        if self._unended:
            self._unended.ended(ended.tolist())

    def _tell(self, told: Starts | Ends, rows: GrowableArray) -> None:
        """Take in the figures of some events."""
        own, columns = rows[told.owners], self._columns
        for name, values in told.figures.items():
            missing = unknown(values)
            if missing.any():
                if columns.is_untold(name) and missing.all():
                    continue
                # A value that this event lacks may be known from an earlier one.
                values = np.where(missing, columns[name][own], values)
            columns.put(name, own, values)
        for name, texts in told.texts.items():
            numbers = self.strings.numbers(texts, name)
            # Where nothing is told and nothing was, no memory is taken.
            if numbers.any() or columns[name][own].any():
                columns.put(name, own, numbers)

    def _call(self, batch: RecordBatch, rows: GrowableArray) -> None:
        calls = batch.calls
        if not len(calls.owners):
            return
        called, names = rows[calls.owners], self.strings.numbers(calls.names)
        fresh = self._unheard(called, calls)
        columns, known = self._columns, called.tolist()
        if len(set(known)) == len(known) and not columns["tools"][called].any():
            columns.put("tools", called, names)
        else:
            listed = dict(zip(known, columns["tools"][called].tolist(), strict=True))
            for row, number in zip(known, names.tolist(), strict=True):
                listed[row] = self._with_tool(listed[row], number)
            columns.put("tools", list(listed), list(listed.values()))
        first, parsers = len(self.calls), self.strings.numbers(calls.parsers)
        told = (names, parsers, calls.faults, calls.argument_bytes)
        self.calls.add(called[fresh], *(values[fresh] for values in told))
        if fresh.all():
            self.tool_calls.add(calls.ts, called, calls.packed)
            self.results.called(first, calls.ids, calls.ts)
        else:
            places = np.flatnonzero(fresh).tolist()
            packed = [calls.packed[place] for place in places]
            self.tool_calls.add(calls.ts[fresh], called[fresh], packed)
            self.results.called(first, [calls.ids[place] for place in places], calls.ts[fresh])

    def _unheard(self, called: GrowableArray, calls: Calls) -> GrowableArray:
        """Which calls are new: a rewritten file repeats calls that are known."""
        fresh = np.ones(len(called), bool)
        for place in np.flatnonzero(self._columns["tools"][called]).tolist():
            row = ToolCallRow(float(calls.ts[place]), int(called[place]), calls.packed[place])
            near = slice(
                *np.searchsorted(self.tool_calls.times, [row.ts, np.nextafter(row.ts, np.inf)])
            )
            fresh[place] = row not in self.tool_calls[near]
        return fresh

    def _with_tool(self, number: int, added: int) -> int:
        """The number of a list of names, one longer if need be."""
        if not number:
            return added
        if (found := self._lists.get((number, added))) is None:
            known, name = self.strings[number], self.strings[added]
            is_new = name not in known.split(BETWEEN_TOOLS)
            found = self.strings.number(f"{known}{BETWEEN_TOOLS}{name}") if is_new else number
            self._lists[number, added] = found
        return found

    def lose_processes(self, gone: Iterable[tuple[int, float]]) -> None:
        """Give up the requests of processes that are gone, and were heard last at some moments."""
        for pid, heard_ts in gone:
            self.servers.found_gone(pid, heard_ts)
        self._unended.lose_gone(-math.inf)

    def lose_silent(self, now_ts: float = -math.inf) -> None:
        """Give up running requests whose process has stopped, or is silent at a moment."""
        self._unended.lose_gone(now_ts)
