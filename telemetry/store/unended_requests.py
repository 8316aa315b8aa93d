"""Requests without an end: those that run, and those that were lost with their process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mlxdeck.telemetry.columns.column_set import ColumnSet
from mlxdeck.telemetry.columns.heard import HeardProcess
from mlxdeck.telemetry.schema.figures import LOST, OPEN, UNKNOWN_NUMBER
from mlxdeck.telemetry.store.process_lives import ProcessLives
from mlxdeck.telemetry.store.progress_history import ProgressHistory
from mlxdeck.telemetry.store.server_history import ServerHistory
from mlxdeck.telemetry.store.time_index import TimeIndex

_REACHED = ("input_tokens", "cached_tokens", "output_tokens")
"""What reports of progress say of a request that never ended."""


class _ByProcess:
    """Rows of requests, and their processes."""

    def __init__(self) -> None:
        self.pids: dict[int, int] = {}
        """Of each row."""
        self.rows: dict[int, set[int]] = {}
        """Of each process that has some."""

    def put(self, row: int, pid: int) -> None:
        self.pids[row] = pid
        self.rows.setdefault(pid, set()).add(row)

    def pop(self, row: int) -> int:
        pid = self.pids.pop(row)
        self.rows[pid].remove(row)
        if not self.rows[pid]:
            del self.rows[pid]
        return pid


class UnendedRequests:
    """Fills in the ends of requests that will not tell them. For the store's thread."""

    def __init__(
        self,
        columns: ColumnSet,
        by_end: TimeIndex,
        servers: ServerHistory,
        progress: ProgressHistory,
    ) -> None:
        self._running, self._lost = _ByProcess(), _ByProcess()
        self._lost_ts: dict[int, float] = {}
        """The last sign of life of the processes with which requests were lost."""
        self._fresh = set[int]()
        """Running requests of which something has come since all were looked at."""
        self._over: dict[int, tuple[float, float]] = {}
        """When processes that have running requests stopped and began last, as of that look."""
        self._lives = ProcessLives()
        self._known_lives: dict[int, object] = {}
        """Of processes with lost requests, as of the last look at these."""
        self._columns, self._by_end = columns, by_end
        self._servers, self._progress = servers, progress

    def __bool__(self) -> bool:
        return bool(self._running.pids or self._lost.pids)

    @property
    def running(self) -> Mapping[int, int]:
        """Rows of requests that have begun and not ended, and their processes."""
        return self._running.pids

    def process(self, row: int) -> int:
        """The process of a request without an end."""
        return self._running.pids[row] if row in self.running else self._lost.pids[row]

    def began(self, row: int, pid: int) -> None:
        """A request runs."""
        self._running.put(row, pid)
        self._fresh.add(row)

    def ended(self, rows: Iterable[int]) -> None:
        """Requests have ended after all."""
        ended = set(rows)
        self._fresh -= ended
        for known in (self._running, self._lost):
            # Of many that end in one go, few were known to run.
            for row in known.pids.keys() & ended:
                known.pop(row)
                self._lost_ts.pop(row, None)

    def heard(self, told: Iterable[HeardProcess]) -> None:
        """Processes have written lines."""
        self._lives.heard(told)

    def reported(self, rows: Sequence[int]) -> None:
        """Requests have reported how far they are, perhaps ones that were lost then."""
        if self._lost.pids:
            self._tell(list(self._lost.pids.keys() & set(rows)))

    def lose_gone(self, now_ts: float) -> None:
        """Give up running requests whose process has stopped, or is silent at a moment.

        They end with the last sign of life of their process, as far as they were.
        """
        found = dict[int, float]()
        for row in self._suspects() if now_ts == -math.inf else self.running:
            lost_ts = self._gone_ts(row, self.running[row], now_ts)
            if lost_ts < math.inf:
                found[row] = lost_ts
        self._fresh.clear()
        for row in found:
            self._lost.put(row, self._running.pop(row))
        self._lost_ts |= found
        rows, times = list(found), list(found.values())
        if rows:
            self._columns.put("outcome", rows, LOST)
            self._columns.put("end_ts", rows, times)
            self._by_end.add(rows, times)
            self._tell(rows)

    def _suspects(self) -> list[int]:
        """Running requests that may be lost: new ones, and those whose process stopped or began.

        Lines come many thousand times, and of those that run by then most have been looked at.
        """
        found = set(self._fresh)
        for pid, rows in self._running.rows.items():
            over = (self._servers.stopped_ts(pid), self._lives.began_ts(pid))
            if over != self._over.get(pid):
                self._over[pid] = over
                found |= rows
        return list(found)

    def look_again(self, told: Iterable[HeardProcess]) -> bool:
        """Processes were heard: they lived longer than was known, or live. Whether that is new."""
        moved, found = dict[int, float](), list[int]()
        for pid in self._lost.rows.keys() & {each.pid for each in told}:
            for row, last_ts in self._changed(pid):
                if last_ts > self._lost_ts[row] and math.isinf(self._gone_ts(row, pid)):
                    found.append(row)
                else:
                    self._lost_ts[row] = moved[row] = last_ts
        self._reopen(found)
        if moved:
            rows, times = list(moved), list(moved.values())
            self._columns.put("end_ts", rows, times)
            self._by_end.move(rows, times)
        return bool(moved or found)

    def _changed(self, pid: int) -> list[tuple[int, float]]:
        """Lost requests of a process whose last sign of life is another one than was known, and it.

        While a file is loaded, lines come many thousand times and say nothing new of that.
        """
        if (lives := self._lives.lives(pid)) == self._known_lives.get(pid):
            return []
        self._known_lives[pid] = lives
        ends_ts, lasts_ts = map(np.array, lives)
        rows = np.fromiter(self._lost.rows[pid], np.int64)
        starts_ts = self._columns["start_ts"][rows]
        # Without any sign, it is the request itself.
        last_ts = lasts_ts[np.searchsorted(ends_ts, starts_ts, side="right")]
        last_ts = np.where(np.isinf(last_ts), starts_ts, last_ts)
        changed = last_ts != np.array([self._lost_ts[row] for row in rows.tolist()])
        return list(zip(rows[changed].tolist(), last_ts[changed].tolist(), strict=True))

    def find_again(self, told: Iterable[tuple[int, float]]) -> None:
        """Lines have come of requests that may have been given up, or begun earlier."""
        rows = dict(told)
        self._fresh |= rows.keys() & self.running.keys()
        lost = self._lost_ts.keys() & rows.keys()
        self._reopen([row for row in lost if rows[row] > self._lost_ts[row]])

    def _gone_ts(self, row: int, pid: int, now_ts: float = -math.inf) -> float:
        """When a request lost its process; infinity if that is there."""
        start_ts = float(self._columns["start_ts"][row])
        if start_ts <= self._servers.stopped_ts(pid):
            return self._lives.last_ts(pid, start_ts)
        return self._lives.gone_ts(pid, start_ts, now_ts)

    def _tell(self, rows: Sequence[int]) -> None:
        """What their last reports say is what is known of them."""
        if not rows:
            return
        own = np.array(rows)
        for name, values in zip(_REACHED, self._progress.reached(own), strict=True):
            told = values >= 0
            if told.any():
                self._columns.put(name, own[told], values[told])

    def _reopen(self, rows: Sequence[int]) -> None:
        if not rows:
            return
        for row in rows:
            self.began(row, self._lost.pop(row))
            del self._lost_ts[row]
        self._by_end.remove(rows)
        for name, value in (("outcome", OPEN), ("end_ts", math.nan)):
            self._columns.put(name, rows, value)
        for name in _REACHED:
            if not self._columns.is_untold(name):
                self._columns.put(name, rows, UNKNOWN_NUMBER)
