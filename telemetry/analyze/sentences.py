"""Times, counts and shares as a person reads them in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any


def span(seconds_: float) -> str:
    """A time for a person."""
    if math.isnan(seconds_):
        return "unknown"
    if seconds_ < 1:
        return f"{1000 * seconds_:.0f} ms"
    if seconds_ < 60:
        return f"{seconds_:.1f} s"
    minutes, rest_s = divmod(round(seconds_), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest_s} s"


def counted(n: float, noun: str) -> str:
    """`1 request`, `2,000 requests`."""
    return f"{n:,.0f} {noun}" + ("" if n == 1 else "s")


def percent(part: float, whole: float) -> str:
    """A share for a person."""
    return f"{100 * part / whole:.0f}%" if whole else "0%"


def listed(names: Sequence[Any], at_most: int = 8) -> str:
    """Names in a sentence, as far as there is room."""
    shown = ", ".join(map(str, names[:at_most]))
    return f"{shown} and {len(names) - at_most} more" if len(names) > at_most else shown


def dated(ts: float) -> str:
    """A moment in local time."""
    return datetime.fromtimestamp(ts).astimezone().strftime("%Y-%m-%d %H:%M:%S")
