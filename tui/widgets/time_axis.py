"""The horizontal axis, which all charts share: round times, and what happened to servers. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mlxdeck.tui.text import format as fmt

STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
)  # fmt: skip
DAY_S = 86_400
GAP = 2
"""Cells between two texts."""


class TimeTick(NamedTuple):
    """A round time, and how it is called."""

    ts: float
    text: str


class TimeMark(NamedTuple):
    """Something that happened to a server, in a word or two."""

    ts: float
    text: str


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Which stretch of time there is, its round times and its marks."""

    start_ts: float = 0.0
    end_ts: float = 0.0
    ticks: tuple[TimeTick, ...] = ()
    marks: tuple[TimeMark, ...] = ()

    @property
    def length_s(self) -> float:
        """Its length."""
        return self.end_ts - self.start_ts

    def column(self, ts: float, width: int) -> int:
        """The column of cells in which a moment lies; the end is in the last one."""
        if self.length_s <= 0:
            return 0
        return min(width - 1, int((ts - self.start_ts) / self.length_s * width + 1e-6))

    def tick_columns(self, width: int) -> list[int]:
        """The columns of the ticks."""
        return [self.column(tick.ts, width) for tick in self.ticks]

    def placed(self, width: int) -> tuple[object, ...]:
        """What is seen of it: while it is the same, so is the axis."""
        texts = tuple(tick.text for tick in self.ticks)
        marks = tuple((self.column(mark.ts, width), mark.text) for mark in self.marks)
        return (*self.tick_columns(width), texts, marks, self.start_ts)


def ago_ticks(now_s: float, length_s: float, width: int) -> tuple[TimeTick, ...]:
    """How long ago, for a window that ends now."""
    step_s = _step(length_s, width, lambda step_s: max(len(f"-{fmt.tick(length_s - step_s)}"), 3))
    n_steps = int(length_s / step_s + 1e-9)
    past = (TimeTick(now_s - n * step_s, f"-{fmt.tick(n * step_s)}") for n in range(n_steps, 0, -1))
    return (*past, TimeTick(now_s, "now"))


def clock_ticks(start_ts: float, end_ts: float, width: int) -> tuple[TimeTick, ...]:
    """Times of day here, and days."""
    length_s = end_ts - start_ts
    step_s = _step(length_s, width, lambda step_s: len(_named(start_ts, step_s)))
    ticks, at_s = [], (start_ts + _offset_s(start_ts)) // step_s * step_s
    while at_s - _offset_s(at_s) <= end_ts:
        ts = at_s - _offset_s(at_s - _offset_s(at_s))
        if start_ts <= ts <= end_ts:
            ticks.append(TimeTick(ts, _named(ts, step_s)))
        at_s += step_s
    return tuple(ticks)


def _step(length_s: float, width: int, cells_of: Callable[[float], int]) -> float:
    """The shortest round step whose texts have room."""
    for step_s in STEPS_S:
        if step_s * width >= (cells_of(step_s) + GAP) * length_s:
            return step_s
    n_days = 1
    while n_days * DAY_S * width < (len("24 Nov") + GAP) * length_s:
        n_days *= 2
    return n_days * DAY_S


def _offset_s(ts: float) -> int:
    return time.localtime(ts).tm_gmtoff


def _named(ts: float, step_s: float) -> str:
    there = time.localtime(ts)
    if step_s >= DAY_S or (step_s >= 3600 and there.tm_hour == there.tm_min == 0):
        return time.strftime("%d %b", there)
    return time.strftime("%H:%M:%S" if step_s < 60 else "%H:%M", there)


def spread(texts: Sequence[tuple[int, str]], width: int) -> str:
    """Texts below their columns, in the middle of each as far as there is room; none touch.

    The last one comes first, as it is the present.
    """
    line, free = [" "] * width, width
    for column, text in reversed(texts):
        first = max(0, min(column - (len(text) - 1) // 2, width - len(text)))
        if first + len(text) > free or len(text) > width:
            continue
        line[first : first + len(text)] = text
        free = first - 1
    return "".join(line)
