"""Numbers with units as short texts, of at most seven cells. A dash means: not known."""

from __future__ import annotations

import math
import time

from rich.cells import cell_len, set_cell_size

from mlxdeck.telemetry.control_characters import CONTROLS

UNKNOWN = "–"
DAY_S = 86_400


def duration(seconds: float) -> str:
    """`40µs`, `0.4ms`, `450ms`, `1.44s`, `12.3s`, `1m15s`, `2h03m`, `3d05h`."""
    if math.isnan(seconds) or not seconds:
        return UNKNOWN if seconds else "0"
    if abs(seconds) < 0.00005:
        return f"{seconds * 1e6:.0f}µs"
    if seconds < 59.95:
        unit, digits = _step(seconds)
        return f"{seconds * (1000 if unit == 'ms' else 1):.{digits}f}{unit}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m"
    return f"{hours // 24}d{hours % 24:02d}h"


def _step(seconds: float) -> tuple[str, int]:
    """The unit of less than a minute, and the digits after the point."""
    if seconds < 0.9995:
        return "ms", 1 if seconds < 0.00995 else 0
    return "s", 2 if seconds < 9.995 else 1


def shown_s(seconds: float) -> float:
    """A duration as `duration` shows it, where that is exact to the second or finer."""
    if math.isnan(seconds) or abs(seconds) < 0.00005:
        return seconds
    if seconds >= 59.95:
        return float(round(seconds))
    unit, digits = _step(seconds)
    return round(seconds, digits + (3 if unit == "ms" else 0))


def tick(seconds: float) -> str:
    """`0`, `5ms`, `2.5s`, `20s`, `4m`, `1h`: a duration that is round, on an axis."""
    for unit, length_s in (("h", 3600), ("m", 60)):
        if seconds >= length_s and seconds % length_s == 0:
            return f"{seconds // length_s:.0f}{unit}"
    if not 0 < seconds < 60:
        return duration(seconds)
    return f"{seconds:.3g}s" if seconds >= 1 else f"{seconds * 1000:.3g}ms"


def count(n: float) -> str:
    """`950`, `18.0k`, `1.2M`."""
    if math.isnan(n):
        return UNKNOWN
    if n < 1000:
        return f"{n:.0f}"
    if n < 999_950:
        return f"{n / 1000:.1f}k"
    return f"{n / 1_000_000:.1f}M"


def rate(per_s: float) -> str:
    """`0`, `8.3`, `120`, `1.2k` of something a second."""
    if math.isnan(per_s):
        return UNKNOWN
    return f"{per_s:.1f}" if 0 < per_s < 99.95 else count(per_s)


def known(n: int | None) -> str:
    """`1,234`; a dash for an unknown number."""
    return UNKNOWN if n is None else f"{n:,}"


def size(n_bytes: float, digits: int = 1) -> str:
    """`0B`, `512KB`, `612MB`, `1.4GB`, `137GB`, in powers of 1000 as `du --si` does."""
    if math.isnan(n_bytes):
        return UNKNOWN
    for unit, power in (("GB", 9), ("MB", 6), ("KB", 3)):
        if n_bytes >= 0.9995 * 10**power:
            value = n_bytes / 10**power
            return f"{value:.{digits if unit == 'GB' and value < 99.95 else 0}f}{unit}"
    return f"{n_bytes:.0f}B"


def percent(share: float) -> str:
    """`0%`, `43%`, `99.7%`: one more digit where it matters."""
    if math.isnan(share):
        return UNKNOWN
    value = 100 * share
    return f"{value:.1f}%" if 99 < value < 99.95 else f"{value:.0f}%"


def clock(ts: float, day_ts: float = math.nan) -> str:
    """Time of day here, `13:20:01`; the day, `21 Sep`, if it is another one than that of `day_ts`.

    Both take eight cells.
    """
    if math.isnan(ts):
        return UNKNOWN
    if days_apart(ts, day_ts):
        return time.strftime("%d %b  ", time.localtime(ts))
    return time.strftime("%H:%M:%S", time.localtime(ts))


def dated(ts: float) -> str:
    """Day and time of day here, `21 Sep 13:20:01`."""
    return UNKNOWN if math.isnan(ts) else time.strftime("%d %b %H:%M:%S", time.localtime(ts))


def days_apart(ts: float, other_ts: float) -> bool:
    """Whether two moments are on different days here; a moment that is not known is on no other."""
    if math.isnan(ts) or math.isnan(other_ts):
        return False
    return time.localtime(ts)[:3] != time.localtime(other_ts)[:3]


def moment(ts: float, length_s: float) -> str:
    """Time of day, or the day where a stretch of time has several."""
    if length_s < DAY_S or math.isnan(ts):
        return clock(ts)
    return time.strftime("%d %b %H:%M", time.localtime(ts))


def counted(n: int, what: str) -> str:
    """`1 request`, `2,000 requests`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def one_line(text: str, width: int) -> str:
    """Cut to a width in cells, with line breaks shown and without other control characters."""
    flat = text.replace("\n", "⏎ ").replace("\t", " ").translate(CONTROLS)
    return flat if cell_len(flat) <= width else set_cell_size(flat, max(0, width - 1)) + "…"


def filled(text: str, width: int) -> str:
    """The same, filled up to the width with blanks on the right."""
    return set_cell_size(one_line(text, width), width)
