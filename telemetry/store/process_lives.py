"""Whether a process that has running requests is still there, by what its lines say."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from itertools import accumulate
from operator import attrgetter

from mlxdeck.telemetry.columns.heard import HeardProcess

SILENT_S = 60.0
"""A server ticks every ten seconds: after so long without a line, its process has been ended."""


class ProcessLives:
    """Fed with what processes write, in any order. For one thread.

    The number of a process may be given again: each of its lives has a beginning.
    """

    def __init__(self) -> None:
        self._began: dict[int, list[float]] = {}
        """When each life of a process began, in order."""
        self._heard: dict[int, list[HeardProcess]] = {}
        """Stretches of time in which a process wrote lines, in order."""

    def heard(self, told: Iterable[HeardProcess]) -> None:
        """Processes have written lines."""
        for each in told:
            if each.begins:
                insort(self._began.setdefault(each.pid, []), each.first_ts)
            own = self._heard.setdefault(each.pid, [])
            insort(own, each, key=attrgetter("first_ts"))
            self._heard[each.pid] = _joined(own)

    def gone_ts(self, pid: int, start_ts: float, now_ts: float) -> float:
        """When a request, which began at `start_ts`, lost its process; infinity if it has one.

        A process that is silent at `now_ts` for too long has been ended, unless it is heard again.
        """
        is_over = self._next_ts(pid, start_ts) < math.inf
        if not is_over and now_ts == -math.inf:
            # As most are asked for, each time that lines come.
            return math.inf
        last_ts = self.last_ts(pid, start_ts)
        return last_ts if is_over or now_ts - last_ts > SILENT_S else math.inf

    def began_ts(self, pid: int) -> float:
        """When the last life of a process began; 0 if that isn't known."""
        return self._began.get(pid, [0.0])[-1]

    def lives(self, pid: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """When each life of a process was over at the latest, and its last sign of life.

        Infinity, where no life follows; less than that, where there is no sign.
        """
        ends_ts = (*self._began.get(pid, ()), math.inf)
        heard = self._heard.get(pid, [])
        latest = list(accumulate((each.last_ts for each in heard), max))
        known = [bisect_left(heard, end_ts, key=attrgetter("first_ts")) for end_ts in ends_ts]
        return ends_ts, tuple(
            min(latest[n - 1], end_ts) if n else -math.inf
            for n, end_ts in zip(known, ends_ts, strict=True)
        )

    def last_ts(self, pid: int, start_ts: float) -> float:
        """The last sign of the life of a process in which a request began."""
        next_ts = self._next_ts(pid, start_ts)
        own = (each for each in self._heard.get(pid, ()) if each.first_ts < next_ts)
        return max((min(each.last_ts, next_ts) for each in own), default=start_ts)

    def _next_ts(self, pid: int, start_ts: float) -> float:
        """When the life begins after the one of a request."""
        began = self._began.get(pid, [])
        later = began[bisect_right(began, start_ts) :]
        return later[0] if later else math.inf


def _joined(own: list[HeardProcess]) -> list[HeardProcess]:
    """Stretches with no silence between them, and no new beginning, as one."""
    found = own[:1]
    for each in own[1:]:
        last = found[-1]
        is_same = not each.begins or each.first_ts == last.first_ts
        if is_same and each.first_ts - last.last_ts <= SILENT_S:
            until_ts = max(last.last_ts, each.last_ts)
            found[-1] = HeardProcess(last.pid, last.first_ts, until_ts, last.begins or each.begins)
        else:
            found.append(each)
    return found
