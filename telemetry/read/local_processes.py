"""Whether servers of this machine, whose streams are read, still run: the system is asked.

A server that is killed writes no last line. Without this, its silence would have to tell.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from mlxdeck.telemetry.columns.record_batch import RecordBatch
from mlxdeck.telemetry.read import spool

FRESH_S, BUSY_FRESH_S = 11.0, 3.0
"""A server writes a line every ten seconds, and while it works every second.

One that writes, but has no process here, runs in a container whose processes have other numbers.
"""
_SLACK_S = 5.0
"""The system tells when it was started by its own clock, which is set now and then."""
_STATE, _STARTED = 0, 19
"""Fields of a process in Linux, counted from behind its name."""


def runs(pid: int, began_ts: float) -> bool:
    """Whether the process with a number runs that had begun by a moment."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # It is there, and somebody else's.
        pass
    fields = _fields(pid)
    if not fields:
        return True
    # One that waits for its parent is dead; a later one has only been given the same number.
    return fields[_STATE] not in "ZX" and _started_ts(fields) <= began_ts + _SLACK_S


def _fields(pid: int) -> list[str]:
    """What Linux tells of a process; empty elsewhere."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started_ts(fields: list[str]) -> float:
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    age_s = uptime_s - int(fields[_STARTED]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


class LocalProcesses:
    """Fed with what is read. For one thread."""

    def __init__(
        self, ask: Callable[[int, float], bool] = runs, host: str = platform.node()
    ) -> None:
        self._ask = ask
        self._host = host
        self._began: dict[int, float] = {}
        """Processes that say that they are of this machine, and have not said that they end."""
        self._heard: dict[int, float] = {}
        self._busy: dict[int, bool] = {}
        """Whether it worked at its last tick."""
        self._seen: set[int] = set()
        """Those that the system knew."""
        self._gone: dict[int, float] = {}
        """Those that it didn't, and when they were heard last."""

    def note(self, batch: RecordBatch) -> RecordBatch:
        """Lines were read; returns them."""
        for each in batch.heard:
            self._heard[each.pid] = max(each.last_ts, self._heard.get(each.pid, 0.0))
        # What was copied here may be of a machine with the same name.
        for header in () if spool.holds(batch.path) else batch.headers:
            if header.attrs.host == self._host and header.attrs.server_port:
                self._began[header.pid] = max(header.ts, self._began.get(header.pid, 0.0))
        self._busy |= {tick.pid: tick.attrs.active > 0 for tick in batch.ticks}
        for stop in batch.stops:
            if self._began.get(stop.pid, stop.ts) <= stop.ts:
                self._began.pop(stop.pid, None)
        return batch

    def gone(self, now_ts: float, within_s: float) -> list[tuple[int, float]]:
        """Processes that are gone without a word, and when each was heard last.

        Only those are asked for that were heard within so many seconds.
        """
        for pid, began_ts in self._began.items():
            heard_ts = self._heard[pid]
            if self._gone.get(pid) == heard_ts or now_ts - heard_ts > within_s:
                continue
            self._gone.pop(pid, None)
            fresh_s = BUSY_FRESH_S if self._busy.get(pid) else FRESH_S
            if self._ask(pid, began_ts):
                self._seen.add(pid)
            elif pid in self._seen or now_ts - heard_ts > fresh_s:
                self._seen.discard(pid)
                self._gone[pid] = heard_ts
        return list(self._gone.items())
