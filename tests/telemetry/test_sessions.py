"""Requests grouped: by conversation, by how they failed; and two compared."""

from __future__ import annotations

import csv
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlxdeck.telemetry.analyze.raw_lines import content
from mlxdeck.telemetry.analyze.request_detail import NotCaptured, curl, detail
from mlxdeck.telemetry.analyze.request_diff import diff, parting
from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.analyze.sessions import agents, error_groups, session_names, sessions
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.export.tables import COLUMNS, FORMATS, ExportError, take, write
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.file_names import stream_files
from mlxdeck.telemetry.store.store import Store
from mlxdeck.telemetry.write.records import Part
from mlxdeck.telemetry.write.writer import Writer
from tests import streams
from tests.streams import Made, Stream
from tests.telemetry.test_filters import REQUESTS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six requests of two sessions."""
    return read([streams.write(tmp_path / "x.jsonl", REQUESTS)])


def test_sessions_add_up_what_their_requests_cost(store: Store) -> None:
    """The one that was used last comes last, or the one with the most of a figure."""
    found = sessions(store, np.arange(store.n))
    numbers = found.numbers.tolist()
    assert [store.strings[number] for number in numbers] == ["session0", "session1"]
    first, last = map(found.totals, numbers)
    assert found.rows_of(numbers[0]).tolist() == [0, 2, 4]
    assert (first.input_tokens, first.n_tool_calls, last.n_errors) == (12_200, 1, 1)
    assert first.hits.total == pytest.approx((1000 + 480) / 12_200)
    assert first.busy_s == pytest.approx(11.25)
    assert last.last_ts - streams.START_TS == 90
    assert found.by("input_tokens").tolist() == numbers[::-1]


def test_sessions_know_nothing_of_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that ended after the moment counts as one that began, and no more."""
    monkeypatch.setattr("mlxdeck.telemetry.analyze.sessions.PART", 2)
    rows = np.arange(store.n)
    ends = store.column("end_ts")[rows]
    ts = float(np.sort(ends)[2])
    later = sessions(store, rows[store.column("start_ts")[rows] <= ts], ts)
    done = sessions(store, rows[ends <= ts])
    for number in later.numbers.tolist():
        here, there = later.totals(number), done.totals(number)
        for name in ("n_errors", "n_tool_calls", "input_tokens", "output_tokens", "busy_s"):
            assert getattr(here, name) == getattr(there, name)
        assert here.last_ts <= ts


def agents_told(*told: tuple[str, str, float]) -> Store:
    """A store of requests of one session: agent, its parent, and when."""
    stream, lines = Stream(), []
    for n, (agent, parent, at_s) in enumerate(told):
        kind, task = ("Explore", f"Look at {agent}") if agent else ("", "")
        begun = t.RequestStart(
            agent_id=agent, parent_agent_id=parent, agent_name=kind, agent_task=task
        )
        lines.append(stream.line(begun, at_s, f"req_{n}", "one"))
        end = t.RequestEnd(input_tokens=10, cached_tokens=5, duration_s=1)
        lines.append(stream.line(end, at_s + 1, f"req_{n}", "one"))
    found = batch(Path("x.jsonl"), b"".join(lines))
    store = Store()
    store.feed([found] if found else [])
    return store


def test_a_session_is_a_tree_of_agents() -> None:
    """Each below the one that started it, in the order of time; totals are each one's own."""
    store = agents_told(
        *(("", "", 1), ("b", "a", 5), ("a", "", 2), ("c", "", 9), ("a", "", 7), ("d", "gone", 10))
    )
    found = sessions(store, np.arange(store.n))
    (number,) = found.numbers.tolist()
    tree = found.agents(number)
    assert [(each.id, each.depth, each.is_last) for each in tree] == [
        *(("", 0, True), ("a", 1, False), ("b", 2, True), ("c", 1, False), ("d", 1, True))
    ]
    assert (tree[1].name, tree[1].task) == ("Explore", "Look at a")
    assert tree[1].rows.tolist() == [2, 4] and tree[1].totals.input_tokens == 20
    assert found.n_agents(number) == 4
    assert sum(each.totals.n_requests for each in tree) == found.totals(number).n_requests


def test_agents_that_started_each_other_are_all_there() -> None:
    """A ring, and one that started itself: what a client says may be wrong."""
    store = agents_told(("a", "b", 1), ("b", "a", 2), ("c", "c", 3))
    tree = agents(store, np.arange(store.n))
    assert sorted(each.id for each in tree) == ["a", "b", "c"]


def test_sessions_are_found_by_their_agents() -> None:
    """By name, kind and task; upper and lower case are the same."""
    store = agents_told(("", "", 1), ("a17", "", 2))
    rows = np.arange(store.n)
    for text in ("ONE", "a17", "explore", "look at a17"):
        assert session_names(store, rows, text).tolist() == [store.column("session")[0]]
    assert not len(session_names(store, rows, "nobody"))
    assert not len(session_names(store, rows[:0], "one"))


def test_failures_are_grouped_by_their_type(tmp_path: Path) -> None:
    """With how often, and the latest of each."""
    made = [Made(n, outcome="error") for n in (10, 20)]
    store = read([streams.write(tmp_path / "x.jsonl", [*made, Made(30)])])
    (group,) = error_groups(store, np.arange(store.n))
    assert (group.kind, group.n, group.last_row) == ("api_error", 2, 1)


def start(**fields: object) -> t.RequestStart:
    """The start of a request."""
    return t.RequestStart(**{"system_hash": "s", "tools_hash": "t", **fields})  # type: ignore[arg-type]


def test_prompts_part_at_the_first_part_that_differs() -> None:
    """System, tools, a message; or nowhere."""
    same = start(message_hashes=("a", "b"))
    assert parting(same, same).place == ""
    assert parting(same, start(system_hash="x", message_hashes=("a", "b"))).place == "system"
    tools = parting(start(tool_names=("R",)), start(tools_hash="u", tool_names=("W",)))
    assert (tools.place, tools.note) == ("tools", "only in A: R, only in B: W")
    other = parting(same, start(message_hashes=("a", "c")))
    assert (other.place, other.n_equal, other.hashes) == ("message 2", 1, ("b", "c"))
    longer = parting(same, start(message_hashes=("a", "b", "c", "d")))
    assert (longer.place, longer.note) == ("message 3", "B goes on for 2 more messages")


def captured(folder: Path) -> Store:
    """Two requests of a conversation, told as `--capture full` tells them."""
    stream = Stream()
    hashes = {name: name * 12 for name in "stuvw"}
    parts = {
        "s": ("system", "system", ["Be brief."]),
        "t": ("tools", "", [{"name": "Read", "description": "Reads.", "input_schema": {}}]),
        "u": ("message", "user", [{"type": "text", "text": "What is\nin a.py?"}]),
        "v": ("message", "user", [{"type": "text", "text": "What is\nin b.py?"}]),
    }
    lines = [stream.header()]
    for number, message in enumerate("uv"):
        name = f"req_{number}"
        told = "stu" if number == 0 else "v"
        request = start(
            model="local",
            max_tokens=9,
            temperature=0.5,
            system_hash=hashes["s"],
            tools_hash=hashes["t"],
            message_hashes=(hashes[message],),
        )
        lines.append(stream.line(request, number, name, "one"))
        for each in told:
            kind, role, value = parts[each]
            part = t.Content(kind=kind, role=role, hash=hashes[each], content=json.dumps(value))
            lines.append(stream.line(part, number, name, "one"))
        said = json.dumps([{"type": "text", "text": "Code."}])
        answer = t.Content(kind="answer", role="assistant", content=said)
        lines.append(stream.line(answer, number, name, "one"))
        lines.append(stream.line(t.RequestEnd(outcome="ok", duration_s=1), number, name, "one"))
    path = folder / streams.NAME
    path.write_bytes(b"".join(lines))
    return read([path])


def test_what_was_captured_is_found_where_it_was_told(tmp_path: Path) -> None:
    """Also for a later request, which only names it; a hash that nobody told is left out."""
    store = captured(tmp_path)
    told = detail(store, 1)
    assert told["system"] == ["Be brief."]
    assert told["messages"][0]["content"][0]["text"] == "What is\nin b.py?"
    assert told["answer"] == [{"type": "text", "text": "Code."}]
    assert content([tmp_path / streams.NAME, tmp_path / "gone"], ["z" * 12]) == {}


def test_a_tool_call_is_told_with_what_came_of_it(tmp_path: Path) -> None:
    """From the session's next request; a call that nobody answered has no result."""
    stream, digest = Stream(), "r" * 12
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True}
    said = json.dumps([{**block, "content": [{"type": "text", "text": "no such file"}]}])
    part = t.Content(kind="message", role="user", hash=digest, content=said)
    lines = [
        stream.line(start(), 1, "req_1", "one"),
        stream.line(t.ToolCall(name="Read", call_id="toolu_1"), 2, "req_1", "one"),
        stream.line(t.ToolCall(name="Read", call_id="toolu_2"), 2, "req_1", "one"),
        stream.line(t.RequestEnd(), 2, "req_1", "one"),
        stream.line(start(message_hashes=("a", "b", "x")), 3, "req_2", "another"),
        stream.line(start(message_hashes=("a", "b", "y", digest)), 4, "req_3", "one"),
        stream.line(part, 4, "req_3", "one"),
    ]
    path = tmp_path / streams.NAME
    path.write_bytes(b"".join(lines))
    answered, unanswered = detail(read([path]), 0)["tool_calls"]
    expected = {"text": "no such file", "failed": True, "bytes": 12, "elapsed_s": None}
    assert answered["result"] == expected
    assert unanswered["result"] is None


def test_a_captured_difference_is_shown_as_one(tmp_path: Path) -> None:
    """Around where it is; nothing is made up where the text is missing."""
    captured(tmp_path)
    both = ("u" * 12, "v" * 12)
    found = content([tmp_path / streams.NAME], both)
    lines = diff(found, both)
    assert "-in a.py?" in lines and "+in b.py?" in lines and " What is" in lines
    assert diff({}, both) == []


def test_a_captured_request_can_be_sent_again(tmp_path: Path, store: Store) -> None:
    """As a command; one that was not captured says how to have it."""
    command = curl(detail(captured(tmp_path), 0))
    assert command.startswith("curl http://127.0.0.1:8081/v1/messages")
    body = json.loads(command.partition("-d '")[2].removesuffix("'"))
    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    assert (body["max_tokens"], body["temperature"]) == (9, 0.5)
    assert body["messages"][0]["role"] == "user"
    with pytest.raises(NotCaptured, match="--capture full"):
        curl(detail(store, 0))


def test_a_detail_is_json(store: Store) -> None:
    """With phases, tokens, lookups and calls."""
    told = json.loads(json.dumps(detail(store, 1)))
    assert told["tokens"] == {"input": 1000, "cached": 900, "output": 20}
    assert told["phases_s"]["prefill"] == 1.0
    assert told["tool_calls"][0]["arguments"] == {"path": "a.py"}
    assert told["lookups"][0]["miss_reason"] == "cold"


@pytest.mark.parametrize("name", FORMATS)
def test_requests_can_be_taken_out(store: Store, tmp_path: Path, name: str) -> None:
    """One line a request, with the columns in their order."""
    path = tmp_path / f"out.{name}"
    write(take(store, np.array([1, 4])), path)
    assert path.stat().st_mode & 0o777 == 0o600
    if name == "csv":
        with path.open(newline="") as file:
            records = list(csv.DictReader(file))
        assert tuple(records[0]) == COLUMNS
        assert [record["request_id"] for record in records] == ["req_7_0001", "req_7_0004"]
    if name == "jsonl":
        first = json.loads(path.read_text().splitlines()[0])
        assert (first["duration_s"], first["cache"]) == (2.0, "prefix")
    if name == "parquet":
        as_json = tmp_path / "out.jsonl"
        write(take(store, np.array([1, 4])), as_json)
        rows = [json.loads(line) for line in as_json.read_text().splitlines()]
        assert pq.read_table(path).to_pylist() == rows


def test_parquet_names_the_extra_that_it_needs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pyarrow is not installed."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError, match=r"pip install mlxdeck\[parquet\]"):
        write(take(store, np.array([1])), tmp_path / "out.parquet")


def test_an_unknown_format_is_refused(store: Store, tmp_path: Path) -> None:
    """With those that there are."""
    with pytest.raises(ExportError, match="there are csv"):
        write(take(store, np.array([0])), tmp_path / "x.xml")


def test_what_was_captured_is_found_in_every_file_of_a_run(tmp_path: Path) -> None:
    """Over several rotations, and when the files before have been removed."""
    writer = Writer(tmp_path, t.StreamStart(), max_bytes=4096, keep_files=2)
    said = [f"message {n} " + "x" * 100 for n in range(40)]
    for n in range(1, 40):
        hashes = tuple(f"hash-{place}" for place in range(n))
        parts = [
            Part("message", "user", f"hash-{place}", partial(json.dumps, [said[place]]))
            for place in range(n)
        ]
        writer.emit(t.RequestStart(message_hashes=hashes), f"req_{n}", "s", parts)
        writer.emit(t.RequestEnd(), f"req_{n}", "s")
    writer.close()
    assert len(stream_files(tmp_path)) == 2
    for path in stream_files(tmp_path):
        alone = tmp_path / "alone" / path.name
        alone.parent.mkdir(exist_ok=True)
        alone.write_bytes(path.read_bytes())
        store = read([alone])
        assert store.n
        for row in range(store.n):
            found = detail(store, row)
            if found["request"]:
                texts = [each["content"][0] for each in found["messages"]]
                assert texts == said[: len(texts)] and len(texts) == len(
                    found["request"]["message_hashes"]
                )


def test_parts_that_0_1_told_in_an_earlier_file_are_found(tmp_path: Path) -> None:
    """It told each part once a run."""
    stream, names = Stream(), [f"mlxdeck-20260921-13132{n}-7.jsonl" for n in range(2)]
    part = t.Content(kind="message", role="user", hash="h1", content='["hello"]')
    start = stream.line(t.RequestStart(message_hashes=("h1",)), 3, "req_2")
    (tmp_path / names[0]).write_bytes(stream.header() + stream.line(part, 1, "req_1"))
    (tmp_path / names[1]).write_bytes(
        stream.header() + start + stream.line(t.RequestEnd(), 4, "req_2")
    )
    store = read([tmp_path / names[1]])
    row = store.row_of("req_2")
    assert row is not None
    assert detail(store, row)["messages"] == [{"role": "user", "content": ["hello"]}]
