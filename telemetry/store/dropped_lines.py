"""How many lines servers could not write, as of any moment."""

from __future__ import annotations

import math


class DroppedLines:
    """Fed with what each process counted since its start, in any order. For one thread."""

    def __init__(self) -> None:
        self._told: dict[int, list[tuple[float, int]]] = {}
        """By process, each number with the moment at which it was told first."""

    def note(self, pid: int, ts: float, n_lines: int) -> None:
        """A process says how many there were by then."""
        told = self._told.setdefault(pid, [])
        if n_lines and (not told or told[-1][1] != n_lines):
            told.append((ts, n_lines))

    def until(self, ts: float = math.inf) -> int:
        """Of all processes."""
        found = ([n for told_ts, n in told if told_ts <= ts] for told in self._told.values())
        return sum(max(each, default=0) for each in found)
