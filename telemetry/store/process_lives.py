"""Whether a process that has running requests is still there, by what its lines say."""

from __future__ import annotations

import math

from mlxdeck.telemetry.columns.growable_array import GrowableArray

SILENT_S = 60.0
"""A server ticks every ten seconds: after so long without a line, its process has been ended."""


class ProcessLives:
    """Fed with what processes write, in any order. For one thread."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}
        self._heard: dict[int, float] = {}

    def began(self, pid: int, ts: float) -> None:
        """A process has begun the first file of its run."""
        self._began[pid] = max(ts, self._began.get(pid, 0.0))

    def heard(self, pids: GrowableArray, times: GrowableArray) -> None:
        """Processes have written lines."""
        for pid in set(pids.tolist()):
            ts = float(times[pids == pid].max())
            self._heard[pid] = max(ts, self._heard.get(pid, 0.0))

    def left_ts(self, pid: int, start_ts: float, now_ts: float) -> float:
        """Since when a request, which began at `start_ts`, has no process; infinity if it has one.

        The number of a process may be given again. One that is silent at `now_ts` for too long has
        been ended, unless it is heard again.
        """
        began_ts = self._began.get(pid, 0.0)
        if began_ts > start_ts:
            return began_ts
        heard_ts = self._heard.get(pid, math.inf)
        return heard_ts if now_ts - heard_ts > SILENT_S else math.inf
