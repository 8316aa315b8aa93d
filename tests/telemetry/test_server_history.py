"""When servers began, stopped and changed their model, and when a stream has ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.request_detail import detail
from mlxdeck.telemetry.analyze.running_servers import (
    all_stopped,
    header_at,
    headers_at,
    stream_end,
)
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import LOST
from mlxdeck.telemetry.store.process_lives import SILENT_S
from mlxdeck.telemetry.store.server_history import ServerMark
from mlxdeck.telemetry.store.store import Store
from mlxdeck.telemetry.store.unended_requests import UnendedRequests
from tests.streams import START_TS, Made, Stream


def fed(parts: Sequence[bytes]) -> Store:
    """A store that has read these lines, a batch each."""
    store = Store()
    for raw in parts:
        found = batch(Path("f"), raw)
        store.feed([found] if found else [])
    return store


def header(model: str) -> t.StreamStart:
    """Of a server at the usual address."""
    return t.StreamStart(model=model, server_address="127.0.0.1", server_port=8081)


@given(st.permutations(range(5)))
def test_changes_of_servers_are_marked(order: Sequence[int]) -> None:
    """In whatever order files are read; a rotated file is no start, a known process can restart."""
    one, two = Stream(1), Stream(2)
    lines = [
        one.line(header("small"), 1),
        one.line(header("small"), 5),
        one.line(t.ServerStop(), 7),
        two.line(header("large"), 8),
        one.line(header("large"), 9),
    ]
    store = fed([lines[place] for place in order])
    assert store.servers.marks(START_TS + 1, START_TS + 8.5) == [
        ServerMark(START_TS + 1, "start", "small"),
        ServerMark(START_TS + 7, "stop", "small"),
        ServerMark(START_TS + 8, "model", "large"),
    ]
    assert store.servers.marks(START_TS + 9, START_TS + 9)[0].change == "start"
    models = [store.servers.header_at(START_TS + at) for at in (0, 6, 8)]
    assert [each.model for each in models if each] == ["small", "small", "large"]


def test_a_stream_has_ended_when_its_servers_have() -> None:
    """By their own word, or by their silence; one of two that still ticks goes on."""
    one, two = Stream(1), Stream(2)
    lines = [one.line(header("m"), 0), *one.request(Made(5), 0), one.tick(10)]
    store, last_ts = fed(lines), START_TS + 10
    assert stream_end(Store(), last_ts) is None
    assert stream_end(store, last_ts + SILENT_S) is None
    assert stream_end(store, last_ts + SILENT_S + 1) == last_ts
    assert stream_end(store, last_ts - SILENT_S - 1) == last_ts
    store = fed([*lines, one.line(t.ServerStop(), 11)])
    assert stream_end(store, last_ts + 2) == last_ts + 1
    store = fed([*lines, one.line(t.ServerStop(), 11), two.tick(12)])
    assert stream_end(store, last_ts + 3) is None


def test_of_several_servers_the_line_tells_of_one_that_runs() -> None:
    """However old it is; once none runs, of the newest."""
    one, two = Stream(1), Stream(2)
    other = t.StreamStart(model="large", server_address="127.0.0.1", server_port=8082)
    lines = [one.line(header("small"), 0), two.line(other, 5), two.line(t.ServerStop(), 20)]
    lines += [one.tick(30), one.line(t.ServerStop(), 40)]
    store = fed(lines)
    told = {at: header_at(store, START_TS + at) for at in (10, 31, 41)}
    assert [each.model for each in told.values() if each] == ["large", "small", "large"]
    assert [all_stopped(store, START_TS + at) for at in told] == [False, False, True]


def test_servers_that_run_beside_each_other_are_all_named() -> None:
    """In the order of their starts, each as it is now; one that has stopped is not."""
    one, two = Stream(1), Stream(2)
    other = t.StreamStart(model="large", server_address="127.0.0.1", server_port=8082)
    lines = [one.line(header("small"), 0), two.line(other, 5), one.line(header("tiny"), 6)]
    lines += [one.tick(10), two.tick(11), two.line(t.ServerStop(), 15), one.tick(20)]
    store = fed(lines)
    for at_s, models in ((4, []), (12, ["tiny", "large"]), (16, ["tiny"]), (60, [])):
        assert [each.model for each in headers_at(store, START_TS + at_s)] == models


@given(st.permutations(range(7)), st.booleans())
def test_a_lost_request_ends_with_the_last_line_of_its_server(
    order: Sequence[int], same_number: bool
) -> None:
    """Not when the next one came to its address, whatever the number of that one's process is."""
    one, two = Stream(1), Stream(1 if same_number else 2)
    reading = t.RequestProgress(state="prefill", prompt_tokens=90, cached_tokens=0, read_tokens=9)
    lines = [
        one.line(header("small"), 1) + one.line(t.RequestStart(), 2, "req_1"),
        one.line(reading, 4, "req_1"),
        one.tick(6),
        one.line(t.ModelUnload(), 8.6),
        two.line(header("small"), 100),
        two.line(t.RequestStart(), 102, "req_2"),
        two.tick(110),
    ]
    store = fed([lines[place] for place in order])
    first, second = (store.row_of(f"req_{n}") for n in (1, 2))
    assert store.column("end_ts")[first] == START_TS + 8.6
    assert store.column("outcome")[first] == LOST and store.open_rows == [second]
    known = detail(store, int(first or 0))
    assert (known["outcome"], known["duration_s"]) == ("lost", 6.6)


def test_a_server_that_had_only_slept_has_lost_nothing() -> None:
    """A tick is enough, whichever request it works at."""
    stream = Stream(1)
    lines = [stream.line(header("m"), 0), stream.line(t.RequestStart(), 1, "req_1")]
    store = fed([*lines, stream.tick(10)])
    store.lose_silent(START_TS + 100)
    assert store.open_rows == []
    store.feed([each for each in [batch(Path("f"), stream.tick(101))] if each])
    assert store.open_rows == [0]


@given(st.permutations(range(4)))
def test_a_server_stopped_when_it_said_so(order: Sequence[int]) -> None:
    """Not when the next one came to its address, in whatever order files are read."""
    one, two = Stream(1), Stream(2)
    lines = [
        one.line(header("small"), 1),
        one.line(t.ServerStop(), 7),
        two.line(header("large"), 30),
        one.tick(6),
    ]
    store = fed([lines[place] for place in order])
    assert store.stopped_ts(1) == START_TS + 7
    assert headers_at(store, START_TS + 10) == []


def test_a_server_that_came_back_from_the_dead_may_begin_another_file() -> None:
    """It was taken for gone, wrote again, and its file was full; or its number was given again."""
    stream = Stream(1)
    store = fed([stream.line(header("m"), 0), stream.line(t.RequestStart(), 1, "req_1")])
    store.lose_processes([(1, START_TS + 1)])
    assert store.open_rows == [] and store.stopped_ts(1) == START_TS + 1
    again = batch(Path("g"), stream.line(header("m"), 30) + stream.tick(31))
    store.feed([again] if again else [])
    assert store.stopped_ts(1) == 0 and store.servers.is_gone is False


def test_a_server_may_begin_and_stop_at_the_moment_of_a_request() -> None:
    """As clocks are coarse: what it was asked then is lost, whenever its stop is read."""
    stream = Stream(1)
    store = fed([stream.line(header("m"), 2), stream.line(t.RequestStart(), 2, "req_1")])
    assert store.open_rows == [0]
    store.feed([each for each in [batch(Path("f"), stream.line(t.ServerStop(), 2))] if each])
    assert store.open_rows == []


REQUEST = st.tuples(st.floats(1, 80), st.floats(1, 80), st.sampled_from(["", "report", "end"]))
LIFE = st.tuples(st.sampled_from([1, 2]), st.lists(REQUEST, max_size=3), st.booleans())
"""A process, its requests, and whether it says its stop."""


@settings(max_examples=200)
@given(st.lists(LIFE, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_what_is_lost_does_not_depend_on_when_lines_are_read(
    lives: list[tuple[int, list[tuple[float, float, str]], bool]], chance: Random
) -> None:
    """Nor on how often somebody looks at a silent server; the first line of a file is known."""
    heads, lines, at_s, number = list[bytes](), list[bytes](), 0.0, 0
    for pid, requests, says_stop in lives:
        stream, at_s = Stream(pid), at_s + 1
        heads.append(stream.line(header("m"), at_s))
        for before_s, later_s, then in requests:
            at_s, number = at_s + before_s, number + 1
            lines.append(stream.line(t.RequestStart(), at_s, f"req_{number}"))
            at_s += later_s
            progress = t.RequestProgress(state="prefill", prompt_tokens=9, read_tokens=number)
            told: t.Attrs = {"": t.Tick(), "report": progress, "end": t.RequestEnd()}[then]
            lines.append(stream.line(told, at_s, f"req_{number}" if then else ""))
        if says_stop:
            lines.append(stream.line(t.ServerStop(), at_s))
    in_order, parts = fed([*heads, *lines]), fed(heads)
    last_ts = START_TS + at_s + chance.choice([0, SILENT_S / 2, 2 * SILENT_S])
    chance.shuffle(lines)
    for line in lines:
        found = batch(Path("f"), line)
        parts.feed([found] if found else [])
        if chance.random() < 0.3:
            parts.lose_silent(chance.uniform(START_TS, last_ts))
    for store in (in_order, parts):
        store.lose_silent(last_ts)
    assert unended(parts) == unended(in_order)


def unended(store: Store) -> dict[str, object]:
    """How each request ended, and when; and what was known of one that did not."""
    names = ("outcome", "end_ts", "input_tokens")
    return {
        name: [str(store.column(each)[store.row_of(name)]) for each in names]
        for name in (f"req_{number}" for number in range(13))
        if store.row_of(name) is not None
    }


def test_lines_that_come_look_at_no_request_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands that run, or that were lost, none is asked with each line of others."""
    n_looks, ask = [0], UnendedRequests._gone_ts

    def counted(self: UnendedRequests, *args: Any) -> float:
        n_looks[0] += 1
        return ask(self, *args)

    monkeypatch.setattr(UnendedRequests, "_gone_ts", counted)
    stream, store = Stream(), fed([])
    lines = [stream.line(header("m"), 0)]
    lines += [stream.line(t.RequestStart(), 1 + n / 100, f"req_{n}") for n in range(1_000)]
    for n in range(0, 1_001, 50):
        if found := batch(Path("f"), b"".join(lines[n : n + 50])):
            store.feed([found])
    assert len(store.open_rows) == 1_000 and n_looks[0] <= 1_000
    store.lose_silent(START_TS + 1_000)
    assert not store.open_rows and n_looks[0] <= 2_000
    # Of the same time and before: nothing new is heard of the process.
    for n in range(100):
        found = batch(Path("f"), stream.line(t.RequestStart(), 1 + n / 100, f"more_{n}"))
        assert found
        store.feed([found])
    assert n_looks[0] <= 2_100
