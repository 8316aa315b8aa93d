"""Requests without an end: those that run, and those that were lost with their process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

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


class UnendedRequests:
    """Fills in the ends of requests that will not tell them. For the store's thread."""

    def __init__(
        self,
        columns: ColumnSet,
        by_end: TimeIndex,
        servers: ServerHistory,
        progress: ProgressHistory,
    ) -> None:
        self.running: dict[int, int] = {}
        """Rows of requests that have begun and not ended, and their processes."""
        self._lost: dict[int, tuple[float, int]] = {}
        """Rows that were lost, the last sign of life of their processes, and these."""
        self._lives = ProcessLives()
        self._columns, self._by_end = columns, by_end
        self._servers, self._progress = servers, progress

    def __bool__(self) -> bool:
        return bool(self.running or self._lost)

    def process(self, row: int) -> int:
        """The process of a request without an end."""
        return self.running[row] if row in self.running else self._lost[row][1]

    def ended(self, rows: Iterable[int]) -> None:
        """Requests have ended after all."""
        ended = set(rows)
        for known in (self.running, self._lost):
            # Of many that end in one go, few were known to run.
            for row in known.keys() & ended:
                del known[row]

    def heard(self, told: Iterable[HeardProcess]) -> None:
        """Processes have written lines."""
        self._lives.heard(told)

    def reported(self, rows: Sequence[int]) -> None:
        """Requests have reported how far they are, perhaps ones that were lost then."""
        if self._lost:
            self._tell(list(self._lost.keys() & set(rows)))

    def lose_gone(self, now_ts: float) -> None:
        """Give up running requests whose process has stopped, or is silent at a moment.

        They end with the last sign of life of their process, as far as they were.
        """
        lost = []
        for row, pid in list(self.running.items()):
            lost_ts = self._gone_ts(row, pid, now_ts)
            if lost_ts < math.inf:
                del self.running[row]
                self._lost[row] = (lost_ts, pid)
                lost.append(row)
                self._columns.put("outcome", row, LOST)
                self._columns.put("end_ts", row, lost_ts)
                self._by_end.add([row], [lost_ts])
        self._tell(lost)

    def look_again(self, told: Iterable[HeardProcess]) -> bool:
        """Processes were heard: they lived longer than was known, or live. Whether that is new."""
        pids, moved, n_lost = {each.pid for each in told}, dict[int, float](), len(self._lost)
        # Of the processes that write, few lost requests; each time that lines come, all are asked.
        own = [(row, *each) for row, each in self._lost.items() if each[1] in pids]
        for row, lost_ts, pid in own:
            last_ts = self._lives.last_ts(pid, float(self._columns["start_ts"][row]))
            if last_ts == lost_ts:
                continue
            if last_ts > lost_ts and math.isinf(self._gone_ts(row, pid)):
                self._reopen(row)
            else:
                self._lost[row], moved[row] = (last_ts, pid), last_ts
        if moved:
            rows, times = list(moved), list(moved.values())
            self._columns.put("end_ts", rows, times)
            self._by_end.move(rows, times)
        return bool(moved) or len(self._lost) < n_lost

    def find_again(self, row: int, ts: float) -> None:
        """A line has come of a request that may have been given up."""
        lost_ts, _ = self._lost.get(row, (math.inf, 0))
        if ts > lost_ts:
            self._reopen(row)

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

    def _reopen(self, row: int) -> None:
        _, self.running[row] = self._lost.pop(row)
        self._by_end.remove([row])
        for name, value in (("outcome", OPEN), ("end_ts", math.nan)):
            self._columns.put(name, row, value)
        for name in _REACHED:
            if not self._columns.is_untold(name):
                self._columns.put(name, row, UNKNOWN_NUMBER)
