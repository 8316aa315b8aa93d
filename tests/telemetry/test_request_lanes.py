"""When requests waited, read and wrote, and the lanes in which they are drawn."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.request_lanes import AgentLanes
from mlxdeck.telemetry.analyze.request_spans import MAX_SPANS, request_spans
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.store.store import Store
from tests.streams import START_TS, Made, Stream

made_spans = st.lists(
    st.builds(Made, st.integers(1, 120).map(float), st.integers(1, 40).map(float)), max_size=20
)


def loaded(requests: list[Made]) -> Store:
    """A store of these, of two sessions in turn."""
    stream, store = Stream(), Store()
    lines = [line for n, made in enumerate(requests) for line in stream.request(made, n)]
    found = batch(Path("f"), b"".join([stream.header(), *lines]))
    store.feed([found] if found else [])
    return store


@given(made_spans, st.lists(st.integers(0, 160), min_size=1, max_size=5).map(sorted))
def test_lanes_hold_what_does_not_overlap_and_stay(
    requests: list[Made], moments: list[int]
) -> None:
    """As time goes on, each request of a moment has one place, beside those of its session."""
    store, lanes, before, last_s = loaded(requests), AgentLanes(), dict[int, str](), -1
    for now_s in moments:
        now_ts = START_TS + now_s
        spans = request_spans(store, now_ts - 60, now_ts)
        drawn = lanes.place(store, spans, now_ts)
        assert sorted(s.row for lane in drawn for s in lane.spans) == sorted(s.row for s in spans)
        wanted = {n for n, made in enumerate(requests) if made.end_s >= now_s - 60}
        wanted &= {n for n, made in enumerate(requests) if made.end_s - made.duration_s <= now_s}
        names = {f"req_7_{n:04d}" for n in wanted}
        assert {store.ids[span.row] for span in spans} == names
        for lane in drawn:
            for one, other in zip(lane.spans, lane.spans[1:], strict=False):
                assert one.end_ts <= other.start_ts
            last = lane.spans[-1].row
            assert lane.label == store.text("session", last)[:8]
        n_most = max(
            (sum(a.start_ts <= b.start_ts < max(a.end_ts, a.start_ts + 1) or a.runs for a in spans)
            for b in spans), default=0,
        )  # fmt: skip
        assert len(moments) > 1 or len(drawn) <= n_most
        for span in spans:
            assert span.start_ts <= span.read_ts <= span.write_ts <= span.end_ts <= now_ts
        place = {s.row: str(lanes._lane_of[s.row]) for lane in drawn for s in lane.spans}
        assert now_s == last_s or all(
            place[row] == before[row] for row in place.keys() & before.keys()
        )
        before, last_s = place, now_s


def test_of_many_requests_the_last_ones_are_drawn() -> None:
    """And of each its phases, from its end back."""
    requests = [Made(n / 10 + 1, 0.5) for n in range(MAX_SPANS + 50)]
    store = loaded(requests)
    spans = request_spans(store, START_TS, START_TS + 100)
    assert len(spans) == MAX_SPANS and spans[-1].end_ts == START_TS + requests[-1].end_s
    last = spans[-1]
    assert (round(last.write_ts - last.start_ts, 3), last.runs) == (0.25, False)
    assert request_spans(store, START_TS, START_TS + 100, store.column("start_ts") < 0) == []


@given(made_spans, st.integers(1, 160))
def test_lanes_are_the_same_however_a_stream_was_read(requests: list[Made], now_s: int) -> None:
    """In one go, or line by line while it is drawn."""
    stream, store, lanes = Stream(), Store(), AgentLanes()
    now_ts, drawn = START_TS + now_s, []
    for number, made in enumerate(requests):
        for line in stream.request(made, number):
            found = batch(Path("f"), line)
            store.feed([found] if found else [])
            drawn = lanes.place(store, request_spans(store, now_ts - 60, now_ts), now_ts)
    spans = request_spans(store, now_ts - 60, now_ts)
    assert drawn == AgentLanes().place(store, spans, now_ts)
