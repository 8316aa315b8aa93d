"""The store against a naive computation over the same lines, whatever way they come in."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.raw_lines import lines_of
from mlxdeck.telemetry.analyze.stats import WINDOWS, Window
from mlxdeck.telemetry.analyze.time_series import Series, TimeSeries, View
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import CACHES, OUTCOMES
from mlxdeck.telemetry.store import store as stores
from mlxdeck.telemetry.store.bounded_history import BoundedHistory
from mlxdeck.telemetry.store.id_index import IdIndex
from mlxdeck.telemetry.store.store import Store
from mlxdeck.telemetry.store.time_index import TimeIndex
from mlxdeck.tui.state.request_query import RequestQuery
from tests.streams import START_TS, Made, Stream, fed, write

made_requests = st.builds(
    Made,
    end_s=st.integers(0, 4000).map(float),
    duration_s=st.sampled_from([0.25, 1.0, 8.0, 60.0]),
    input_tokens=st.integers(1, 20_000),
    cached_tokens=st.integers(0, 100),
    output_tokens=st.integers(0, 500),
    outcome=st.sampled_from(["ok", "ok", "error", "cancelled"]),
    cache=st.sampled_from(["miss", "exact", "prefix"]),
    tool=st.sampled_from(["", "Read", "Bash"]),
)


@dataclass
class Naive:
    """A request put together line by line, from lines decoded in full."""

    lines: list[bytes] = field(default_factory=list)
    start_ts: float = math.inf
    end: t.RequestEnd | None = None
    end_ts: float = math.nan
    model: str = ""
    session: str = ""
    tools: set[str] = field(default_factory=set)

    def add(self, raw: bytes) -> None:
        """Take in one more of its lines."""
        line = codec.decode(raw)
        self.lines.append(raw.rstrip(b"\n"))
        self.start_ts = min(self.start_ts, line.ts)
        self.session = line.session_id
        match line.attrs:
            case t.RequestStart() as start:
                self.model = start.model
            case t.ToolCall() as call:
                self.tools.add(call.name)
            case t.RequestEnd() as end:
                self.end, self.end_ts = end, line.ts


def row_of(store: Store, row: int) -> dict[str, Any]:
    """What the store says of a request."""
    names = ("input_tokens", "cached_tokens", "output_tokens", "status", "n_tool_calls")
    return {
        **{name: store.column(name)[row].item() for name in (*names, "start_ts", "end_ts")},
        **{name: store.text(name, row) for name in ("model", "session", "finish", "error_type")},
        "duration_s": store.column("duration_s")[row],
        "outcome": OUTCOMES[store.column("outcome")[row]],
        "cache": CACHES[store.column("cache")[row]],
        "tools": set(filter(None, store.text("tools", row).split(stores.BETWEEN_TOOLS))),
    }


def expected(naive: Naive) -> dict[str, Any]:
    """The same from a naive reading; every request here has ended."""
    end = naive.end
    assert end
    names = ("input_tokens", "cached_tokens", "output_tokens", "status", "n_tool_calls")
    return {
        **{name: getattr(end, name) for name in names},
        **{name: getattr(naive, name) for name in ("model", "session", "start_ts", "end_ts")},
        "duration_s": np.float32(end.duration_s),
        "finish": ", ".join(end.finish_reasons),
        "error_type": end.error_type,
        "outcome": end.outcome,
        "cache": end.cache_result,
        "tools": naive.tools,
    }


@settings(max_examples=60)
@given(st.lists(made_requests, max_size=12), st.data())
def test_it_equals_a_naive_reading_in_whatever_order_lines_come(
    requests: list[Made], data: st.DataObject
) -> None:
    """Lines of requests that ran beside each other, in two files, in pieces, the last piece first.

    Every column of every request, and its lines as they are found again, are those of a reading
    line by line in full.
    """
    streams = [Stream(pid) for pid in (7, 17)]
    naive: dict[str, Naive] = {}
    files: list[list[bytes]] = [[], []]
    for number, made in enumerate(requests):
        lines = streams[number % 2].request(made, number)
        for raw in lines:
            naive.setdefault(codec.decode(raw).request_id, Naive()).add(raw)
            # Beside the others, but not before its own.
            file = files[number % 2]
            at = [n for n, other in enumerate(file) if other in lines]
            place = data.draw(st.integers(at[-1] + 1 if at else 0, len(file)))
            file.insert(place, raw)
    with tempfile.TemporaryDirectory() as folder:
        pieces = []
        for number, file in enumerate(files):
            path = Path(folder) / f"{number}.jsonl"
            path.write_bytes(b"".join(file))
            cut = data.draw(st.integers(0, len(file)))
            for part, offset in ((file[cut:], sum(map(len, file[:cut]))), (file[:cut], 0)):
                pieces.append(batch(path, b"".join(part), offset))
        store = Store()
        store.feed(piece for piece in data.draw(st.permutations(pieces)) if piece)
        assert store.n == len(naive) and store.open_rows == []
        for name, each in naive.items():
            row = store.row_of(name)
            assert row is not None and store.ids[row] == name
            assert row_of(store, row) == expected(each)
            assert sorted(lines_of(store, row)) == sorted(each.lines)
    for order, column in ((store.by_start, "start_ts"), (store.by_end, "end_ts")):
        assert sorted(order.rows.tolist()) == list(range(store.n))
        assert order.times.tolist() == sorted(store.column(column).tolist())


@settings(max_examples=60)
@given(
    st.lists(st.lists(made_requests, max_size=12), min_size=1, max_size=5),
    st.sampled_from(WINDOWS),
    st.integers(1, 6),
    st.booleans(),
)
def test_a_chart_that_is_kept_up_equals_one_made_anew(
    steps: list[list[Made]], window: Window, look_back: int, filtered: bool
) -> None:
    """After every few requests, late ones too, and as the window moves on."""
    store, kept = Store(), TimeSeries(look_back)
    listing = RequestQuery(store)
    listing.set("status:ok" if filtered else "")
    for now_ts in fed(store, steps):
        got = kept.series(store, window, now_ts, 20, listing.view_at())
        anew = TimeSeries(look_back).series(store, window, now_ts, 20, View(listing.mask))
        for name in Series.__slots__:
            np.testing.assert_array_equal(getattr(got, name), getattr(anew, name), name)


def test_each_point_of_a_chart_is_of_the_requests_in_its_stretch() -> None:
    """Percentiles reach back over some buckets, counts do not."""
    stream, store = Stream(), Store()
    made = [Made(float(n), duration_s=float(n + 1)) for n in range(60)]
    lines = b"".join(line for n, each in enumerate(made) for line in stream.request(each, n))
    found = batch(Path("f"), lines)
    assert found
    store.feed([found])
    got = TimeSeries(3).series(store, WINDOWS[0], START_TS + 59, 6)
    assert got.bucket_s == 10 and got.n.tolist() == [10] * 6
    assert got.durations[0].tolist() == [5, 10, 15, 25, 35, 45]
    assert got.durations[2].tolist() == [10, 20, 30, 40, 50, 60]


@given(st.lists(st.lists(st.text("äb01", max_size=30), unique=True), max_size=8), st.booleans())
def test_names_keep_their_numbers(batches: list[list[str]], all_meet: bool) -> None:
    """As a dictionary would have it, also in the sorted array, and where all hashes are one."""
    ids, plain = IdIndex(), dict[str, int]()
    if all_meet:
        ids._factors = np.zeros(40, np.uint64)
    for number, names in enumerate(batches):
        for name in names:
            plain.setdefault(name, len(plain))
        assert ids.numbers(np.array([n.encode() for n in names], "S")).tolist() == [
            plain[name] for name in names
        ]
        if number % 2:
            ids._settle()
    for name, row in plain.items():
        assert ids.number(name) == row and ids[row] == name
    assert ids.number("none of them") is None and ids.n == len(plain)
    found = [row for name, row in plain.items() if name.startswith("ä")]
    assert ids.starting_with("ä") == found


@given(st.lists(st.lists(st.integers(0, 50), max_size=9)), st.integers(1, 20), st.booleans())
def test_the_newest_are_kept_in_order(
    batches: list[list[int]], limit: int, looked_at: bool
) -> None:
    """As a sorted list would have it; each keeps its number for as long as it is there."""
    recent = BoundedHistory(limit, lambda ts, owner, text: f"{owner} {text} {ts:.0f}")
    naive = list[tuple[int, int]]()
    for more in batches:
        numbers = range(len(naive), len(naive) + len(more))
        naive += zip(more, numbers, strict=True)
        recent.add(np.array(more, float), np.array(more, int) + 1, ["at"] * len(more))
        assert not looked_at or len(recent) <= limit
    left = sorted(naive, key=lambda each: each[0])[-limit:]
    assert recent.times.tolist() == [ts for ts, _ in left]
    assert len(recent) == len(left) and recent.until(25) == sum(ts <= 25 for ts, _ in left)
    assert recent[-3:] == [f"{ts + 1} at {ts}" for ts, _ in left][-3:]
    for ts, number in naive:
        found = recent.numbered(number)
        assert found == (f"{ts + 1} at {ts}" if number in recent.numbers else None)


def test_rows_that_move_stay_in_order() -> None:
    """A request that turns out to have begun earlier."""
    order = TimeIndex()
    assert order.first_ts == math.inf
    order.add([0, 1, 2], [10.0, 20.0, 30.0])
    assert order.first_ts == 10
    order.move([2], [5.0])
    assert order.first_ts == 5
    order.add([3], [15.0])
    assert order.rows.tolist() == [2, 0, 3, 1]
    assert order.between(10, 15).tolist() == [0, 3] and order.until(9) == 1


def test_streams_that_ran_beside_each_other_are_one_in_time(tmp_path: Path) -> None:
    """Requests, calls and ticks are in the order of time, whichever file is read first."""
    paths = [
        write(tmp_path / f"{pid}.jsonl", [Made(n, tool="Read") for n in range(pid, 90, 20)], pid)
        for pid in (17, 7)
    ]
    store, tail = Store(), Tail(paths)
    while store.feed(tail.poll(2000)):
        pass
    tail.close()
    ticks, calls = (rows.times.tolist() for rows in (store.ticks, store.tool_calls))
    assert ticks == sorted(ticks) and len(ticks) == 2
    assert calls == sorted(calls) and len(calls) == 9
    listing = RequestQuery(store)
    starts = store.column("start_ts")[listing.rows()]
    assert starts.tolist() == sorted(starts.tolist()) and len(starts) == 9
    assert len(listing.rows(START_TS + 40)) == 4
    assert len(listing.calls(START_TS + 40)) == 4
    listing.set("id:req_7")
    assert len(listing.rows()) == 5 and len(listing.calls()) == 5


def test_what_was_not_known_at_a_moment_does_not_match() -> None:
    """A request that ran then is listed by what it began with alone."""
    stream, store = Stream(), Store()
    made = [Made(10.0, duration_s=8.0, tool="Read"), Made(30.0, duration_s=28.0, tool="Read")]
    found = batch(Path("f"), b"".join(b"".join(stream.request(m, n)) for n, m in enumerate(made)))
    store.feed([found] if found else [])
    listing = RequestQuery(store)
    for text, then, at_last in (
        ("latency>1s", 1, 2), ("tool:Read", 1, 2), ("status:open", 1, 0), ("cached<1", 1, 2),
        ("session:session1", 1, 1), ("id:0001", 1, 1), ('text:"a.py"', 1, 2), ("not ttft>1s", 1, 0),
    ):  # fmt: skip
        listing.set(text)
        assert (len(listing.rows(START_TS + 20)), len(listing.rows())) == (then, at_last), text


@given(st.lists(made_requests, max_size=30), st.lists(st.floats(-5, 100), max_size=8))
def test_what_ran_at_a_moment_is_what_had_begun_and_not_ended(
    made: list[Made], moments: list[float]
) -> None:
    """Whatever runs how long beside what."""
    store = Store()
    for now_ts in fed(store, [made[::2], made[1::2]]):
        starts, ends = store.column("start_ts"), store.column("end_ts")
        for ts in (*(START_TS + each for each in moments), now_ts):
            wanted = np.flatnonzero((starts <= ts) & (ends > ts))
            assert sorted(store.ended_after(ts).tolist()) == wanted.tolist()


def test_to_play_a_recording_each_request_is_looked_at_a_few_times() -> None:
    """Not all that come later at each moment; and once a moment, however many parts ask."""
    n, store = 500, Store()
    list(fed(store, [[Made(each + 1.0, duration_s=1.5) for each in range(n)]]))
    listing = RequestQuery(store)
    listing.set("status:ok")
    for second in range(n):
        for _ in range(5):
            listing.view_at(START_TS + second)
    assert listing.n_views == n
    assert store.n_looked <= 3 * n


@pytest.mark.parametrize("how", ["again", "rotated", "another process", "begun twice"])
def test_requests_of_several_servers_with_one_id_are_told_apart(how: str, tmp_path: Path) -> None:
    """Or are told; not lines that are read again, or that another file of the same server has."""
    one, store = Stream(7), Store()
    lines = one.request(Made(10), 0)
    other = Stream(8) if how == "another process" else one
    if how == "again":
        more = [lines, lines]
    elif how == "rotated":
        more = [[one.line(t.RequestEnd(), 12, "req_7_0000")]]
    else:
        made = [line.replace(b"req_8", b"req_7") for line in other.request(Made(20), 0)]
        more = [made[:1], made[1:]]
    for name, parts in (("f", [lines]), ("g", more)):
        raws = [b"".join(part) for part in parts]
        (tmp_path / name).write_bytes(b"".join(raws))
        for place, raw in enumerate(raws):
            found = batch(tmp_path / name, raw, sum(map(len, raws[:place])))
            store.feed([found] if found else [])
    n = 2 if how == "another process" else 1
    assert store.n == n and len(store.shared_ids.mixed) == (how == "begun twice")
    if n == 2:
        assert (store.column("end_ts") - START_TS).tolist()[:2] == [10, 20]
        assert [lines_of(store, row) for row in range(2)] == [
            [line.rstrip() for line in each] for each in (lines, made)
        ]


def test_tools_that_are_called_later_come_behind_the_others() -> None:
    """Each once, however many calls a batch holds of a request."""
    stream, store = Stream(), Store()
    for names in (["Read"], ["Bash", "Read", "Edit"], ["Edit"]):
        calls = (stream.line(t.ToolCall(name=name, call_id=name), 1, "req_1") for name in names)
        store.feed(filter(None, [batch(Path("f"), b"".join(calls))]))
    row = store.row_of("req_1")
    assert row is not None
    assert store.text("tools", row).split(stores.BETWEEN_TOOLS) == ["Read", "Bash", "Edit"]
