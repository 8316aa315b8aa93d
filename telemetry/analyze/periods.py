"""Periods as a person writes them: `7d`, `2026-11-20`, `2026-11-20T14:00..2026-11-21`."""

from __future__ import annotations

import re
from datetime import datetime

from mlxdeck.telemetry.analyze.report import Period
from mlxdeck.telemetry.store.store import Store

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
BETWEEN = ".."
EXPECTED = "expected a length such as 90s, 30m, 12h or 7d, or a date such as 2026-11-20"


def length_s(text: str) -> float | None:
    """Seconds of `90s`, `30m`, `12h`, `7d` or `2w`; None if it is no length."""
    matched = _LENGTH.fullmatch(text.strip().lower())
    return float(matched[1]) * _UNITS_S[matched[2]] if matched else None


def moment(text: str) -> float:
    """Seconds since 1970 of a local date, with a time or without.

    Raises:
        ValueError: It is none.
    """
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{EXPECTED}, got {text!r}") from None


def since(text: str, end_ts: float) -> float:
    """The moment of a date, or so long before `end_ts`.

    Raises:
        ValueError: It is neither.
    """
    length = length_s(text)
    return moment(text) if length is None else _before(end_ts, length)


def _before(end_ts: float, length: float) -> float:
    """So long before; at most 1970, as there is no date of ten thousand years ago."""
    return max(end_ts - length, min(end_ts, 0.0))


def everything(store: Store) -> Period:
    """From the first line to the last one."""
    return Period(store.first_ts, store.last_ts)


def period(store: Store, since_text: str, now_ts: float | None = None) -> Period:
    """What lies between `since_text` and now; without a now, and the last line.

    Raises:
        ValueError: The text is no period.
    """
    end_ts = store.last_ts if now_ts is None else now_ts
    if not since_text:
        return Period(store.first_ts if store.n_lines else end_ts, end_ts)
    return Period(since(since_text, end_ts), end_ts)


def compared(text: str, own: Period) -> Period:
    """The period to compare with: so long just before `own`, or from a date to another.

    Raises:
        ValueError: The text is no period.
    """
    if (length := length_s(text)) is not None:
        return _ordered(_before(own.from_ts, length), own.from_ts, text)
    begin, dots, end = text.partition(BETWEEN)
    if not dots:
        raise ValueError(
            "expected a telemetry file, a length such as 7d, or two dates such as"
            f" 2026-11-01{BETWEEN}2026-11-08, got {text!r}"
        )
    return _ordered(moment(begin), moment(end), text)


def _ordered(from_ts: float, until_ts: float, text: str) -> Period:
    if until_ts <= from_ts:
        raise ValueError(f"expected a period that ends after it begins, got {text!r}")
    return Period(from_ts, until_ts)
