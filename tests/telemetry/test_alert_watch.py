"""Thresholds and findings that are watched: what is news, and what was told before."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.alerts.watch import FindingWatch, Watch
from mlxdeck.telemetry.analyze.finding import ReportFinding
from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.analyze.stats import WINDOWS, HitRate, Percentiles, Summary, summary
from mlxdeck.telemetry.schema.events import Tick
from tests.streams import START_TS, Made, write

LIMITS = Thresholds(1.0, 0.9, 0.1, 3, 1000)
NAN = math.nan
NONE = Summary(0, 0, Percentiles(NAN, NAN, NAN, 0), NAN, HitRate(NAN, NAN), 0, 0, 0)


def of(*, p95_s: float = 0.0, hits: float = 1.0, n_errors: int = 0, n: int = 100) -> Summary:
    """Figures of a window."""
    slow = Percentiles(p95_s, p95_s, p95_s, n)
    return replace(NONE, n_requests=n, n_errors=n_errors, duration=slow, hits=HitRate(0.0, hits))


def test_each_crossing_is_told_once(tmp_path: Path) -> None:
    """Again only after it has been gone."""
    slow = [Made(n, 5.0, outcome="ok" if n % 2 else "error") for n in range(10, 20)]
    total = summary(read([write(tmp_path / "a", slow)]), WINDOWS[1], START_TS + 30)
    calm = summary(read([write(tmp_path / "b", [])]), WINDOWS[1], START_TS + 30)
    alarm = Watch(LIMITS)
    busy = Tick(queued=4, memory_active_bytes=2000)
    told = {alert.name for alert in alarm.look(total, busy)}
    assert told == {"latency_p95_s", "hit_rate", "error_rate", "queue", "memory_bytes"}
    assert alarm.look(total, busy) == []
    assert alarm.look(calm, None) == [] and alarm.active == []
    assert alarm.look(total, None) != []


def test_nothing_is_told_that_nobody_asked_for(tmp_path: Path) -> None:
    """Nor of rates over very few requests."""
    few = summary(read([write(tmp_path / "a", [Made(10, 9.0)])]), WINDOWS[1], START_TS + 30)
    assert Watch(Thresholds()).look(few, Tick(queued=99)) == []
    assert Watch(LIMITS).look(few, None) == []


@pytest.mark.parametrize(
    ("limits", "bad", "near", "back"),
    [
        (Thresholds(latency_p95_s=10), of(p95_s=11), of(p95_s=9.5), of(p95_s=9)),
        (Thresholds(hit_rate=0.5), of(hits=0.49), of(hits=0.54), of(hits=0.55)),
        (Thresholds(hit_rate=0.96), of(hits=0.9), of(hits=0.97), of(hits=0.98)),
        (Thresholds(error_rate=0.1), of(n_errors=11), of(n_errors=10), of(n_errors=9)),
    ],
)
def test_a_crossing_is_over_when_its_figure_is_clearly_back(
    limits: Thresholds, bad: Summary, near: Summary, back: Summary
) -> None:
    """What wavers around a limit is told once."""
    alarm = Watch(limits)
    (alert,) = alarm.look(bad, None)
    assert alert.value is not None and alert.limit is not None and alert.n_requests == 100
    for _ in range(3):
        assert alarm.look(near, None) == alarm.look(bad, None) == []
        assert alarm.active
    assert alarm.look(back, None) == alarm.active == []
    assert alarm.look(near, None) == []
    assert alarm.look(bad, None) == [alert]


def test_too_few_requests_end_no_crossing() -> None:
    """Where none are left, it is over; the queue of no server is, too."""
    alarm = Watch(Thresholds(latency_p95_s=1, queue=3))
    assert len(alarm.look(of(p95_s=2, n=5), Tick(queued=4))) == 2
    assert alarm.look(of(p95_s=2, n=4), Tick(queued=3)) == [] and len(alarm.active) == 2
    assert alarm.look(of(p95_s=2, n=5), Tick(queued=4)) == []
    assert alarm.look(NONE, None) == alarm.active == []


@given(st.floats(0.1, 1e6), st.lists(st.floats(0, 2), max_size=50))
def test_between_two_alerts_the_figure_was_clearly_back(limit: float, course: list[float]) -> None:
    """Whatever course it takes."""
    alarm, is_over = Watch(Thresholds(latency_p95_s=limit)), True
    for share in course:
        is_crossed = limit * share > limit
        new = alarm.look(of(p95_s=limit * share), None)
        assert bool(new) == (is_crossed and is_over)
        assert bool(alarm.active) == (is_crossed or not is_over and limit * share > limit * 0.9)
        is_over = not alarm.active


def test_a_finding_is_told_once_for_its_subject() -> None:
    """Also when it was gone meanwhile, and whatever its figures are by now."""
    slow = ReportFinding("upstream_fails", "a fails.", (), (), 3, ())
    other = replace(slow, title="b fails.")
    watch = FindingWatch()
    (alert,) = watch.look([slow])
    assert (alert.name, alert.text, alert.n_requests) == ("upstream_fails", "a fails.", 3)
    assert alert.value is None and alert.limit is None
    assert watch.look([replace(slow, n_requests=9)]) == watch.look([]) == watch.look([slow]) == []
    assert [each.text for each in watch.look([slow, other])] == ["b fails."]
