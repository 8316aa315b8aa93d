"""Numbers as short texts."""

from __future__ import annotations

import math
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.tui.screens.compare import _longer
from mlxdeck.tui.text import format as fmt

NAN = math.nan


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0"), (0.00004, "40µs"), (0.0004, "0.4ms"), (0.00996, "10ms"), (0.45, "450ms"),
        (0.9996, "1.00s"), (1.444, "1.44s"), (9.996, "10.0s"), (59.96, "1m00s"), (75, "1m15s"),
        (7380, "2h03m"), (277_300, "3d05h"), (NAN, "–"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    """Three digits, in the unit that suits."""
    assert fmt.duration(seconds) == text


@given(st.floats(0, 3500))
def test_what_is_shown_is_known_as_a_number(seconds: float) -> None:
    """A difference of two durations is that of the texts that stand beside it."""
    text = fmt.duration(seconds)
    assert fmt.duration(fmt.shown_s(seconds)) == text
    if text.endswith("ms"):
        assert fmt.shown_s(seconds) == pytest.approx(float(text[:-2]) / 1000)
    elif text[:-1].replace(".", "").isdigit() and "m" not in text:
        assert fmt.shown_s(seconds) == pytest.approx(float(text[:-1]))


@pytest.mark.parametrize(
    ("one_s", "other_s", "text"),
    [(0.5366, 0.2344, "-303ms  0.44×"), (0.2344, 0.5366, "+303ms  2.3×"), (1.0, 1.001, "")],
)
def test_a_change_is_that_of_the_shown_times(one_s: float, other_s: float, text: str) -> None:
    """537 ms and 234 ms differ by 303 ms, whatever their next digits are."""
    assert _longer(one_s, other_s) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0"), (0.005, "5ms"), (2.5, "2.5s"), (20, "20s"), (90, "1m30s")]
)
def test_tick(seconds: float, text: str) -> None:
    """No digits that say nothing."""
    assert fmt.tick(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0"), (999, "999"), (18_000, "18.0k"), (999_960, "1.0M"), (NAN, "–")]
)
def test_count(n: float, text: str) -> None:
    """Thousands and millions in one digit after the point."""
    assert fmt.count(n) == text


@pytest.mark.parametrize(("n", "text"), [(0, "0"), (8.32, "8.3"), (1200, "1.2k"), (NAN, "–")])
def test_rate(n: float, text: str) -> None:
    """Small rates keep a digit."""
    assert fmt.rate(n) == text


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0B"), (999, "999B"), (612e6, "612MB"), (1.44e9, "1.4GB"), (NAN, "–")]
)
def test_size(n: float, text: str) -> None:
    """Bytes in powers of a thousand."""
    assert fmt.size(n) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (0.434, "43%"), (0.997, "99.7%"), (1, "100%"), (NAN, "–")]
)
def test_percent(share: float, text: str) -> None:
    """What is almost all doesn't look like all."""
    assert fmt.percent(share) == text


@given(st.floats(0, 1e6))
def test_numbers_are_short(value: float) -> None:
    """They fit the narrow columns that they are shown in."""
    assert max(map(len, (fmt.duration(value), fmt.count(value), fmt.rate(value)))) <= 7


def test_time_of_day_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the reader's own time zone."""
    monkeypatch.setitem(os.environ, "TZ", "XXX-2")
    time.tzset()
    try:
        assert fmt.clock(0) == "02:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert fmt.clock(NAN) == "–"


def test_a_stretch_of_days_is_told_with_dates() -> None:
    """One within a day by its times."""
    assert fmt.moment(1_790_000_000, 600) == fmt.clock(1_790_000_000)
    assert " Sep " in fmt.moment(1_790_000_000, 200_000)
    assert fmt.moment(NAN, 200_000) == "–"


def test_one_line() -> None:
    """Line breaks are shown, what is too long is cut."""
    assert fmt.one_line("a\nb\tc", 10) == "a⏎ b c"
    assert fmt.one_line("abcdef", 4) == "abc…"


def test_counted() -> None:
    """One of a thing is not several."""
    assert [fmt.counted(n, "line") for n in (0, 1, 2000)] == ["0 lines", "1 line", "2,000 lines"]
