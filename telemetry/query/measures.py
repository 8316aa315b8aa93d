"""Numbers and times of a filter, as intervals. Pure."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from mlxdeck.telemetry.query.lexer import Kind, number, unit

BETWEEN = ".."
_NEEDS: Mapping[Kind, str] = {
    "seconds": "needs a time like 2s or 300ms",
    "count": "needs a number like 5 or 8k",
    "share": "needs a share like 0.5 or 40%",
    "time": "needs a time like 14:30 or 2026-11-24 14:30; or ago<10m",
}
DAY_S = 86_400
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T](\d\d?:\d\d(?::\d\d)?))?")


class MeasureError(ValueError):
    """A text that is no number of the kind."""


class Interval(NamedTuple):
    """From one number to another; infinity where there is no limit."""

    low: float
    high: float
    is_open: bool = False
    """Whether both limits are outside."""


Moments = Callable[[float], Interval]
"""The interval as of a moment: most are always the same, times of day are of the day before it."""


def interval(kind: Kind, sign: str, text: str) -> Moments:
    """Which numbers a sign and a value mean.

    Raises:
        MeasureError: The value is no number of this kind.
    """
    if text == "*":
        return _always(Interval(-math.inf, math.inf))
    first, dots, last = text.partition(BETWEEN)
    if dots and sign not in (":", "="):
        raise MeasureError(f"takes : or = with {BETWEEN}")
    if kind == "time":
        return _times(sign, first, last, is_range=bool(dots))
    if dots:
        low, high = _range(kind, first.strip(), last.strip())
        return _always(Interval(low, high))
    value, half = _number(kind, text)
    return _always(
        {
            ">": Interval(value, math.inf, is_open=True),
            ">=": Interval(value, math.inf),
            "<": Interval(-math.inf, value, is_open=True),
            "<=": Interval(-math.inf, value),
        }.get(sign, Interval(value - half, value + half))
    )


def _always(found: Interval) -> Moments:
    return lambda _: found


def _number(kind: Kind, text: str) -> tuple[float, float]:
    value, half = number(kind, text)
    if math.isnan(value):
        raise MeasureError(_NEEDS[kind])
    return value, half


def _range(kind: Kind, first: str, last: str) -> tuple[float, float]:
    """Both limits may be left out, and the unit of the first one."""
    if first and last and not unit(first):
        first += unit(last)
    low = _number(kind, first)[0] if first else -math.inf
    high = _number(kind, last)[0] if last else math.inf
    if low > high or not (first or last):
        raise MeasureError(f"needs the smaller number first, as in 1{BETWEEN}5")
    return low, high


def _times(sign: str, first: str, last: str, *, is_range: bool) -> Moments:
    for each in filter(None, (first, last)) if is_range else (first,):
        _span(each, 0.0)

    def meant(now_ts: float) -> Interval:
        low, high = _span(first, now_ts) if first else (-math.inf, -math.inf)
        if is_range:
            # The end of 23:00..01:00 is the first such time after its beginning.
            after_ts = low + DAY_S if first else now_ts
            ends = _span(last, after_ts) if last else (math.inf, math.inf)
            # A range of days includes its last day.
            return Interval(low, ends[":" not in last])
        return {
            ">": Interval(low, math.inf),
            ">=": Interval(low, math.inf),
            "<": Interval(-math.inf, math.nextafter(low, -math.inf)),
            "<=": Interval(-math.inf, high),
        }.get(sign, Interval(low, high))

    return meant


def _span(text: str, now_ts: float) -> tuple[float, float]:
    """The first and the last moment of a day, a minute or a second.

    Of a time of day it is the last one that is not after `now_ts`.
    """
    text = text.strip()
    try:
        if found := _CLOCK.fullmatch(text):
            clock, step = [int(part or 0) for part in found.groups()], 2 if found[3] else 1
            day = list(time.localtime(now_ts)[:3])
            if _moment([*day, *clock]) > now_ts:
                day[2] -= 1
        elif _DATE.fullmatch(text):
            date, _, of_day = text.replace("T", " ").partition(" ")
            day = list(datetime.fromisoformat(date).timetuple()[:3])
            clock = [*map(int, of_day.split(":") if of_day else ()), 0, 0, 0][:3]
            step = of_day.count(":") if of_day else -1
        else:
            raise MeasureError(_NEEDS["time"])
        parts = [*day, *clock]
        begin_ts = _moment(parts)
        parts[3 + step] += 1
        return begin_ts, math.nextafter(_moment(parts), begin_ts)
    except (ValueError, OverflowError, OSError) as error:
        raise MeasureError(_NEEDS["time"]) from error


def _moment(parts: Sequence[int]) -> float:
    """Of a year, a month, a day, an hour, a minute and a second here, also beyond their ends."""
    year, month, day, hour, minute, second = parts
    return time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
