"""What requests report while they run: kept by moment, and counted when it happens."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.selection import told_ends
from mlxdeck.telemetry.analyze.stats import WINDOWS, summary
from mlxdeck.telemetry.analyze.time_series import Series, TimeSeries
from mlxdeck.telemetry.analyze.token_flow import RATE_S, output_tokens_per_s
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import LOST, OPEN
from mlxdeck.telemetry.store import progress_history
from mlxdeck.telemetry.store.store import Store
from tests.streams import START_TS, Stream

reported = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 60),
        st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), max_size=5),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each[0],
)
"""Requests: a number, a start, tokens read and written by each report, and whether it ends."""


def lines(requests: list[tuple[int, int, list[tuple[int, int]], bool]]) -> list[tuple[int, bytes]]:
    """Each line with its second."""
    stream, found = Stream(), []
    for number, start_s, reports, ends in requests:
        name = f"req_{number}"
        found.append((start_s, stream.line(t.RequestStart(model="m"), start_s, name)))
        read = max((r for r, _ in reports), default=0)
        written = max((w for _, w in reports), default=0)
        for n, (r, w) in enumerate(reports, 1):
            attrs = t.RequestProgress(
                state="decode", prompt_tokens=1000, cached_tokens=10, read_tokens=r + 10,
                output_tokens=w,
            )  # fmt: skip
            found.append((start_s + n, stream.line(attrs, start_s + n, name)))
        if ends:
            end_s = start_s + len(reports) + 1
            end = t.RequestEnd(input_tokens=read + 17, cached_tokens=10, output_tokens=written + 5)
            found.append((end_s, stream.line(end, end_s, name)))
    return found


def naive(
    requests: list[tuple[int, int, list[tuple[int, int]], bool]], now_s: int
) -> dict[int, list[int]]:
    """Tokens written and computed by second: each when it is told for the first time."""
    came: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for _, start_s, reports, ends in requests:
        told = [0, 0]
        steps = [(start_s + n, w, r) for n, (r, w) in enumerate(reports, 1)]
        if ends:
            read, written = (max((each[n] for each in reports), default=0) for n in (0, 1))
            steps.append((start_s + len(reports) + 1, written + 5, read + 7))
        for second, *values in steps:
            for kind, value in enumerate(values):
                if second <= now_s:
                    came[second][kind] += max(0, value - told[kind])
                told[kind] = max(told[kind], value)
    return came


@settings(max_examples=60)
@given(reported, st.data())
def test_tokens_count_when_they_come(
    requests: list[tuple[int, int, list[tuple[int, int]], bool]], data: st.DataObject
) -> None:
    """In every second as it was told, at every moment, in whatever order lines are read."""
    shuffled = data.draw(st.permutations(lines(requests)))
    store, kept = Store(), TimeSeries()
    now_s = data.draw(st.integers(0, 80))
    for n, (_, line) in enumerate(shuffled):
        found = batch(Path("f"), line, n * 1000)
        assert found
        store.feed([found])
        if n % 3 == 0:
            kept.series(store, WINDOWS[0], START_TS + now_s, 60)
    came = naive(requests, now_s)
    first_s = now_s - 59
    expected = [came.get(second, [0, 0]) for second in range(first_s, now_s + 1)]
    got = kept.series(store, WINDOWS[0], START_TS + now_s, 60)
    anew = TimeSeries().series(store, WINDOWS[0], START_TS + now_s, 60)
    for name in Series.__slots__:
        np.testing.assert_array_equal(getattr(got, name), getattr(anew, name), name)
    assert np.nan_to_num(got.output_tokens).tolist() == [w for w, _ in expected]
    assert np.nan_to_num(got.computed_tokens).tolist() == [r for _, r in expected]
    total = summary(store, WINDOWS[-1], START_TS + now_s)
    assert total.written_tokens == sum(w for w, _ in came.values())
    assert total.computed_tokens == sum(r for _, r in came.values())
    recent = sum(came.get(second, [0])[0] for second in range(now_s - 10, now_s + 1))
    assert output_tokens_per_s(store, START_TS + now_s) == recent / RATE_S


def test_old_points_go_and_their_tokens_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """They count at the next point that is kept, or at the end."""
    store = Store()
    store.progress = progress_history.ProgressHistory(store.strings, limit=20)
    stream = Stream()
    for n in range(100):
        attrs = t.RequestProgress(state="decode", output_tokens=n)
        found = batch(Path("f"), stream.line(attrs, n, "req_1"), n)
        assert found
        store.feed([found])
        assert len(store.progress) <= 25
    end = batch(Path("f"), stream.line(t.RequestEnd(output_tokens=104), 101, "req_1"), 101)
    assert end
    store.feed([end])
    assert summary(store, WINDOWS[-1], START_TS + 102).written_tokens == 104


def silent(*at_s: float) -> Store:
    """A server that ticks at these seconds, with a request since the first one."""
    stream, store = Stream(), Store()
    found = [stream.header(), stream.line(t.RequestStart(model="m"), at_s[0], "req_1")]
    read = batch(Path("f"), b"".join([*found, *(stream.tick(each) for each in at_s)]))
    assert read
    store.feed([read])
    return store


def test_what_a_killed_server_left_does_not_run_for_ever() -> None:
    """It is lost as of the server's last word, and found again with the next one."""
    store = silent(1, 10)
    store.lose_silent(START_TS + 60)
    assert store.open_rows == [0]
    store.lose_silent(START_TS + 100)
    assert store.open_rows == [] and store.column("outcome")[0] == LOST
    assert store.later(np.array([0]), START_TS + 9).all()
    assert not store.later(np.array([0]), START_TS + 11).any()
    # It had only slept.
    line = Stream().line(t.RequestProgress(state="decode"), 101, "req_1")
    woken = batch(Path("f"), line, 9999)
    assert woken
    store.feed([woken])
    assert store.open_rows == [0] and store.column("outcome")[0] == OPEN


def test_what_is_lost_counts_as_far_as_it_was() -> None:
    """As ended with its server; what it reported last is known of it, until it is found again."""
    store, stream = silent(1, 10), Stream()
    told = t.RequestProgress(
        *(), state="decode", prompt_tokens=900, cached_tokens=600, read_tokens=900, output_tokens=7
    )
    late = batch(Path("f"), stream.line(told, 4, "req_1"), 999)
    assert late
    for feed_first in (True, False):
        store = silent(1, 10)
        if feed_first:
            store.feed([late])
        store.lose_silent(START_TS + 100)
        if not feed_first:
            # Another file of it is read later.
            store.feed([late])
        names = ("input_tokens", "cached_tokens", "output_tokens")
        assert [int(store.column(name)[0]) for name in names] == [900, 600, 7]
        total = summary(store, WINDOWS[0], START_TS + 30)
        assert (total.n_requests, total.n_errors, total.output_tokens) == (1, 0, 7)
        assert total.hits.prefix == pytest.approx(2 / 3)
        assert (total.written_tokens, total.computed_tokens) == (7, 300)
        assert summary(store, WINDOWS[0], START_TS + 9).n_requests == 0
        assert not len(told_ends(store, store.by_end.rows))
    again = batch(Path("f"), stream.line(t.RequestProgress(state="decode"), 101, "req_1"), 9999)
    assert again
    store.feed([again])
    assert [int(store.column(name)[0]) for name in names] == [-1, -1, -1]
    assert not len(store.by_end.rows) and np.isnan(store.column("end_ts")[0])


def test_a_process_that_begins_anew_has_lost_its_requests() -> None:
    """Its number was given again; a file that only continues another one loses nothing."""
    for previous, outcome in (("", LOST), ("before.jsonl", OPEN)):
        store = silent(1, 10)
        header = Stream().line(t.StreamStart(model="m", previous_file=previous), 20)
        again = batch(Path("g"), header)
        assert again
        store.feed([again])
        assert store.column("outcome")[0] == outcome
