"""From values to rows of dots: zero is the lowest, the top is the highest. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
DOTS = 4
"""Rows of dots in a cell."""
_ROUND = (1.0, 2.0, 5.0, 10.0)
TIMES_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18_000, 36_000)
"""Steps of time from a second on; they go on with days."""
DAY_S = 86_400
MAX_STEPS = 6


@dataclass(frozen=True, slots=True)
class Axis:
    """The vertical axis of a chart."""

    text: Callable[[float], str]
    """Formats its round numbers."""
    value: Callable[[float], str]
    """Formats any value."""
    top: float | None = None
    """Where it always ends, if so."""
    of_time: bool = False
    """Whether values are seconds, so that 15s and 2m are round."""


@dataclass(frozen=True, slots=True)
class Label:
    """A round value, and the row of dots that it lies in, from the bottom."""

    value: float
    dot: int


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of values that some lines of cells span."""

    low: float
    high: float
    n_rows: int
    """Lines of cells."""
    step: float = 0.0
    """Between labels; of a logarithmic one, the factor."""
    log: bool = False
    clipped: bool = False
    """Whether there are values above it."""

    @classmethod
    def of(cls, highest: float, axis: Axis, n_rows: int, *, clipped: bool = False) -> Scale:
        """From zero up to the first round value that is not below the highest; NaN for none."""
        n_steps = max(1, min(MAX_STEPS, (n_rows - 1) // 2))
        highest = axis.top or (highest if highest > 0 else 1.0)
        step = (round_time if axis.of_time else round_up)(highest / n_steps)
        n = max(1, math.ceil(highest / step - 1e-6))
        return cls(0.0, step * n, n_rows, step, clipped=clipped)

    @classmethod
    def of_decades(cls, lowest: float, highest: float, n_rows: int) -> Scale:
        """A logarithmic one between powers of ten."""
        first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest) - 1e-9)
        last = max(last, first + 1)
        n_steps = max(1, min(MAX_STEPS, n_rows // 2))
        step = 10.0 ** math.ceil((last - first) / n_steps)
        return cls(10.0**first, 10.0**last, n_rows, step, log=True)

    @property
    def n_dots(self) -> int:
        """Rows of dots."""
        return self.n_rows * DOTS

    def dots(self, values: Array) -> Array:
        """Rows of dots from the bottom, the nearest ones; -1 where there is no value."""
        known = ~np.isnan(values)
        filled = np.where(known, values, self.low)
        if self.log:
            # By a plain number, so that a million of 32 bits stay so.
            shares = np.log(np.maximum(filled, self.low) / self.low)
            shares /= math.log(self.high / self.low)
        else:
            shares = (filled - self.low) / (self.high - self.low)
        rows = np.rint(np.clip(shares, 0, 1) * (self.n_dots - 1)).astype(np.int32)
        return np.where(known, rows, -1)

    def dot(self, value: float | None) -> int:
        """The same of one value; -1 if it is not in sight."""
        if not value or not self.low <= value <= self.high:
            return -1
        return int(self.dots(np.array([value]))[0])

    def line(self, dot: int) -> int:
        """The line of cells, from the top, of a row of dots."""
        return self.n_rows - 1 - dot // DOTS

    def rows(self, values: Array, top: int) -> Array:
        """The line of cells, from the top, of each value; `top` is the number of the last one."""
        return top - self.dots(values) // DOTS

    def labels(self) -> list[Label]:
        """From the lowest to the highest."""
        if self.log:
            n = round(math.log(self.high / self.low) / math.log(self.step) + 1e-9)
            values = [self.low * self.step**k for k in range(n + 1)]
            values = [value for value in values if value <= self.high * (1 + 1e-9)]
        else:
            values = [self.step * k for k in range(round(self.high / self.step) + 1)]
        dots = self.dots(np.array(values)).tolist()
        return [Label(value, dot) for value, dot in zip(values, dots, strict=True)]


def round_up(value: float) -> float:
    """The next number that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step for step in (each * power for each in _ROUND) if step >= value * (1 - 1e-9))


def round_time(seconds: float) -> float:
    """The same of seconds, where 15s, 30s, 1m and 15m are round too."""
    if seconds <= TIMES_S[0] / 2:
        return round_up(seconds)
    for step in TIMES_S:
        if step >= seconds * (1 - 1e-9):
            return float(step)
    return round_up(seconds / DAY_S) * DAY_S if seconds > DAY_S else float(DAY_S)
