"""The store and the arithmetic on it, against a naive computation over the same events."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.periods import everything
from mlxdeck.telemetry.analyze.report import Period, figures
from mlxdeck.telemetry.analyze.sessions import sessions
from mlxdeck.telemetry.analyze.stats import (
    RANKS,
    WINDOWS,
    Window,
    nearest_rank,
    summary,
    trailing_ranks,
)
from mlxdeck.telemetry.analyze.time_series import TimeSeries
from mlxdeck.telemetry.analyze.window_uses import window_uses
from mlxdeck.telemetry.columns.record_batch import RecordBatch, batch
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import LOST, OPEN
from mlxdeck.telemetry.store.store import FileSpan, Store
from tests.streams import NAME, START_TS, Made, Stream, write

made_requests = st.lists(
    st.builds(
        Made,
        end_s=st.floats(0, 4000),
        duration_s=st.floats(0.001, 60),
        input_tokens=st.integers(0, 20_000),
        cached_tokens=st.just(0),
        output_tokens=st.integers(0, 500),
        outcome=st.sampled_from(["ok", "ok", "error", "cancelled"]),
        cache=st.sampled_from(["miss", "exact", "prefix"]),
    ),
    max_size=40,
)


def loaded(requests: list[Made]) -> Store:
    """A store fed from a file with these requests."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / NAME, requests)
        store = Store()
        store.feed(Tail([path]).poll())
    return store


def made(raw: bytes, offset: int = 0) -> RecordBatch:
    """Lines as a store takes them."""
    found = batch(Path("f"), raw, offset)
    assert found
    return found


def naive_percentile(values: list[float], rank: float) -> float:
    """The definition, word by word."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(rank / 100 * len(values)) - 1)]


@settings(max_examples=40)
@given(made_requests, st.sampled_from(WINDOWS), st.floats(0, 4100))
def test_figures_equal_a_naive_computation(
    requests: list[Made], window: Window, now_s: float
) -> None:
    """Counts, percentiles, sums and hit rates of any window of any stream."""
    store = loaded(requests)
    now_ts = START_TS + now_s
    length_s = window.length_s or math.inf
    # As they are stored: so large a number of seconds has less than a microsecond, a figure six
    # digits.
    inside = [r for r in requests if 0 <= now_ts - (START_TS + r.end_s) <= length_s]
    got = summary(store, window, now_ts)
    good = [float(np.float32(round(r.duration_s, 6))) for r in inside if r.outcome == "ok"]
    assert got.n_requests == len(inside)
    assert got.n_errors == sum(r.outcome == "error" for r in inside)
    assert got.duration.n == len(good)
    for rank, value in ((50, got.duration.p50), (95, got.duration.p95), (99, got.duration.p99)):
        assert value == pytest.approx(naive_percentile(good, rank), nan_ok=True)
    total = sum(r.input_tokens for r in inside)
    exact = sum(r.input_tokens for r in inside if r.cache == "exact")
    assert got.input_tokens == total
    if total:
        assert got.hits.exact == pytest.approx(exact / total)
    else:
        assert math.isnan(got.hits.exact)
    buckets = TimeSeries().series(store, window, now_ts, 30)
    assert buckets.errors.sum() <= buckets.n.sum()
    assert np.isnan(buckets.durations[:, buckets.n == 0]).all()


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_nearest_rank_is_a_value_that_was_there(values: list[float], rank: float) -> None:
    """Exactly the definition, and always one of the values."""
    (got,) = nearest_rank(np.array(values), [rank])
    assert got in values
    assert got == naive_percentile(values, rank)


def test_hit_rates_are_weighted_by_tokens_and_add_up() -> None:
    """A whole repeated answer counts as exact, a cached state as prefix, never both."""
    store = loaded(
        [
            Made(1, input_tokens=1000, cached_tokens=1000, cache="exact"),
            Made(2, input_tokens=2000, cached_tokens=1500, cache="prefix", tier="disk"),
            Made(3, input_tokens=1000, cache="miss"),
        ]
    )
    hits = summary(store, WINDOWS[-1], START_TS + 4).hits
    assert (hits.exact, hits.prefix, hits.total) == (0.25, 0.375, 0.625)
    assert hits.slower == 0.375
    assert TimeSeries(9).series(store, WINDOWS[-1], START_TS + 4, 9).slower[-1] == 0.375


def test_a_request_fills_in_as_its_events_come() -> None:
    """Open from its first line on; its end brings the figures; its lines can be found again."""
    stream, store = Stream(), Store()
    lines = stream.request(Made(2.0, tool="Read"), 0)
    store.feed([made(lines[0])])
    assert store.open_rows == [0] and store.column("outcome")[0] == OPEN
    store.feed([made(b"".join(lines[1:]), len(lines[0]))])
    assert store.open_rows == [] and store.column("output_tokens")[0] == 10
    assert store.spans(0) == [FileSpan(Path("f"), 0, sum(map(len, lines[:-1])))]
    assert store.tool_calls[0].call.name == "Read" and store.tool_calls[0].row == 0
    assert store.text("session", 0) == "session0" and store.text("tools", 0) == "Read"
    assert store.row_of("req_7_0000") == 0 and store.row_of("other") is None


def test_requests_of_a_server_that_stopped_are_lost_not_active() -> None:
    """A server that says good-bye takes its open requests with it, and only its own."""
    store = Store()
    for pid in (1, 2):
        first = Stream(pid).request(Made(2.0), pid)[0]
        store.feed([made(first)])
    stop = Stream(1).line(t.ServerStop(reason="stopped"), 3)
    store.feed([made(stop)])
    assert list(store.column("outcome")) == [LOST, OPEN]
    assert store.open_rows == [1]


@pytest.mark.parametrize("newest_first", [False, True])
def test_requests_of_a_server_that_was_killed_are_lost(newest_first: bool) -> None:
    """As soon as another process listens at its address; a rotation by itself says nothing."""
    header = t.StreamStart(server_address="127.0.0.1", server_port=8081)
    old, new = Stream(1), Stream(2)
    parts = [
        old.line(header, 1) + old.request(Made(3.0), 0)[0],
        old.line(header, 4) + old.request(Made(6.0), 1)[0],
        new.line(header, 8) + new.request(Made(10.0), 2)[0],
    ]
    store = Store()
    for part in reversed(parts) if newest_first else parts:
        store.feed([made(part)])
    outcomes = {store.ids[row]: int(store.column("outcome")[row]) for row in range(store.n)}
    assert outcomes == {"req_1_0000": LOST, "req_1_0001": LOST, "req_2_0002": OPEN}


def test_it_grows_without_forgetting() -> None:
    """Thousands of rows keep their values while the columns are enlarged."""
    stream, store = Stream(), Store()
    for number in range(3000):
        end = stream.request(Made(number, output_tokens=number), number)[-1]
        store.feed([made(end)])
    assert list(store.column("output_tokens")) == list(range(3000))


def test_unknown_events_are_counted() -> None:
    """What a newer writer of the same version adds is no error."""
    store = Store()
    raw = Stream().tick(1).replace(b'"tick"', b'"tock"')
    store.feed([made(raw)])
    assert store.n_unknown == 1


_FLOATS = st.floats(-(2**30), 2**30, width=32)


@given(st.lists(st.lists(_FLOATS, max_size=6), min_size=1, max_size=9), st.integers(1, 9))
def test_ranks_of_buckets_in_a_row_are_those_of_their_values(
    buckets: list[list[float]], look_back: int
) -> None:
    """Whatever the buckets hold, also nothing, and numbers below zero."""
    look_back = min(look_back, len(buckets))
    edges = np.cumsum([0, *map(len, buckets)])
    values = np.array([value for bucket in buckets for value in bucket], np.float32)
    wanted = [
        nearest_rank(values[edges[at] : edges[at + look_back]])
        for at in range(len(buckets) - look_back + 1)
    ]
    got = trailing_ranks(values, edges, look_back, RANKS)
    np.testing.assert_array_equal(got, np.transpose(wanted))


def test_what_nobody_knows_is_no_miss() -> None:
    """A prompt of which it is not known what came from a cache says nothing of the hit rate."""
    stream, store = Stream(), Store()
    lines = [stream.header(), *stream.request(Made(10, input_tokens=100, cached_tokens=50), 0)]
    unknown = t.RequestEnd(input_tokens=900, output_tokens=5, duration_s=1.0)
    lines += [stream.line(e, 11, "req_x", "session0") for e in (t.RequestStart(), unknown)]
    found = batch(Path(NAME), b"".join(lines))
    assert found
    store.feed([found])
    total = summary(store, WINDOWS[-1], store.last_ts)
    assert (total.input_tokens, total.hits.total, total.ttft_p50) == (1000, 0.5, 0.5)
    series = TimeSeries().series(store, WINDOWS[-1], store.last_ts, 1)
    assert float(series.prefix[-1]) == 0.5
    added = sessions(store, store.by_end.rows)
    assert {added.totals(number).hits.total for number in added.numbers} == {0.5}


def test_time_saved_is_at_one_speed_in_every_window_and_filter() -> None:
    """Where hardly a token was computed, or none, the time of a pass is not the time of a token."""
    few = Made(200, 1.0, 1000, 999, cache="prefix")
    store = loaded(
        [
            Made(10, 2.0, 1000, 0),
            few,
            Made(210, 0.001, 1000, 1000, 0, cache="exact"),
        ]
    )
    now_s, exact = START_TS + 220, np.array([False, False, True])
    short, whole = (window_uses(store, window, now_s).saved for window in (WINDOWS[0], WINDOWS[-1]))
    assert short.seconds == whole.seconds and short.tokens == whole.tokens == 1999
    # 1,000 tokens took 1 s.
    assert whole.seconds == pytest.approx(1.999)
    assert window_uses(store, WINDOWS[0], now_s, exact).saved.seconds == pytest.approx(1.0)
    assert window_uses(store, WINDOWS[0], START_TS, exact).saved.seconds == 0
    untold = loaded([few])
    assert math.isnan(window_uses(untold, WINDOWS[-1], now_s).saved.seconds)
    assert math.isnan(figures(untold, everything(untold)).saved.seconds)


def test_time_saved_is_at_the_own_speed_of_each_request() -> None:
    """Of a large and a small model, of a busy server and an idle one; report and tiles alike."""
    store = loaded(
        [
            Made(10, 20.0, 1000, 900, cache="prefix"),
            Made(200, 2.0, 10_000, 9_000, cache="prefix"),
            Made(210, 0.1, 1000, 1000, 0, cache="exact"),
        ]
    )
    # 100 and 1 ms a token; 50.5 ms in the median.
    seconds = pytest.approx(90 + 9 + 50.5)
    assert window_uses(store, WINDOWS[-1], START_TS + 220).saved.seconds == seconds
    assert figures(store, everything(store)).saved.seconds == seconds
    last = Period(START_TS + 205, START_TS + 220)
    assert figures(store, last).saved.seconds == pytest.approx(50.5)
