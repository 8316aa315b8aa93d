"""Which processes wrote some lines, and from when to when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.read import fast_decode


@dataclass(frozen=True, slots=True)
class HeardProcess:
    """That a process wrote lines, from one moment to another."""

    pid: int
    first_ts: float
    last_ts: float
    begins: bool
    """Whether its run begins with them."""


def heard(
    lines: Sequence[fast_decode.Skimmed], times: GrowableArray, *, is_one: bool
) -> list[HeardProcess]:
    """By process; `is_one` if all lines are of one run of one process, as far as is known."""
    if is_one:
        first_ts, last_ts = float(times.min()), float(times.max())
        return [HeardProcess(lines[0].pid, first_ts, last_ts, _begins(lines[0]))]
    found: list[list[Any]] = []
    latest: dict[int, list[Any]] = {}
    for line in lines:
        own = latest.get(line.pid)
        if own is None or _begins(line):
            own = latest[line.pid] = [line.pid, line.ts, line.ts, _begins(line)]
            found.append(own)
        own[1:3] = min(own[1], line.ts), max(own[2], line.ts)
    return [HeardProcess(*each) for each in found]


def _begins(line: fast_decode.Skimmed) -> bool:
    """Whether a run of a process begins with a line; a file that was rotated is no beginning."""
    return isinstance(line, fast_decode.DecodedHeader) and not line.attrs.previous_file
