"""Claude Code's own transcripts as recordings: what they tell, and what they don't."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.request_detail import detail
from mlxdeck.telemetry.analyze.token_costs import TokenCosts, token_costs
from mlxdeck.telemetry.read.places import check_place
from mlxdeck.telemetry.read.streams import GrowingStreams
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema.attributes import MAX_COUNT
from mlxdeck.telemetry.schema.figures import CANCELLED, ERROR, OK, OPEN
from mlxdeck.telemetry.store.store import Store
from mlxdeck.telemetry.transcripts.conversation_state import CameBack, Conversation, OpenRequest
from mlxdeck.telemetry.transcripts.conversion import Conversion
from mlxdeck.telemetry.transcripts.event_lines import EventLines
from mlxdeck.telemetry.transcripts.transcript_feed import TranscriptFeed
from mlxdeck.telemetry.transcripts.transcript_lines import line_of
from tests.streams import Made, read_streams, write
from tests.transcripts import SESSION, START_TS, Transcript, call, text


def figures(store: Store, row: int, *names: str) -> list[float | None]:
    """Figures of a request; None where they are unknown."""
    told = detail(store, row)["figures"]
    return [told[name] for name in names]


def task(*, announced: bool) -> Transcript:
    """A task with a call whose result comes before its answer is complete."""
    made = Transcript()
    made.says("Look at a.py", 0)
    if announced:
        made.asks("one", 1)
    ref: dict[str, Any] = {"requestRef": "one"} if announced else {}
    made.answers("1", {"type": "thinking", "thinking": "Hm."}, 3, (10, 100, 1000, 1), **ref)
    made.answers("1", call("toolu_1", "Read", file_path="a.py"), 4, **ref)
    made.result("toolu_1", "no such file", 4.5, failed=True)
    made.answers("1", call("toolu_2", "Bash", command="ls"), 5, stop_reason="tool_use", **ref)
    made.result("toolu_2", [text("a.txt")], 6)
    if announced:
        made.asks("two", 7)
        ref = {"requestRef": "two"}
    made.answers("2", text("It is a.txt"), 9, (5, 0, 1100, 7), stop_reason="end_turn", **ref)
    return made


@pytest.mark.parametrize("announced", [True, False], ids=["later", "earlier"])
def test_a_transcript_is_a_recording(tmp_path: Path, announced: bool) -> None:
    """Blocks of an answer are one request, whose tokens count once; its calls have results."""
    store = read_streams([task(announced=announced).write(tmp_path / f"{SESSION}.jsonl")])
    assert store.n == 2 and [store.text("session", row) for row in (0, 1)] == [SESSION] * 2
    first, second = detail(store, 0), detail(store, 1)
    assert first["tokens"] == {"input": 1110, "cached": 1000, "output": 50}
    assert second["tokens"] == {"input": 1105, "cached": 1100, "output": 7}
    begun = (1, 7) if announced else (0, 6)
    assert [first["start_ts"], second["start_ts"]] == [START_TS + at_s for at_s in begun]
    assert [first["duration_s"], second["duration_s"]] == [5 - begun[0], 9 - begun[1]]
    assert (first["outcome"], first["cache"], first["status"]) == ("ok", "prefix", 200)
    failed, came = first["tool_calls"]
    assert (failed["name"], failed["result"]["failed"]) == ("Read", True)
    assert (came["name"], came["arguments"]) == ("Bash", {"command": "ls"})
    assert figures(store, 1, "n_failed_results") == [1]
    assert second["messages"][0]["content"] == [text("Look at a.py")]
    assert second["answer"] == [text("It is a.txt")]
    assert second["request"]["last_user_text"] == "Look at a.py"
    if announced:
        assert second["request"]["max_tokens"] == 32000 and store.ids[0] == "one"


def test_what_a_transcript_does_not_tell_is_unknown(tmp_path: Path) -> None:
    """Phases and first tokens never are known; no time is made up, and none counts as zero."""
    made = Transcript()
    made.answers("1", text("Goes on."), 3)
    made.answers("0", text("As the first versions say."), 3.5, durationMs=400)
    made.says("and?", 4)
    made.asks("two", 5)
    store = read_streams([made.write(tmp_path / "a.jsonl")])
    names = ("ttft_s", "queue_s", "prefill_s", "decode_s", "tokenize_s")
    for row in (0, 1, 2):
        assert figures(store, row, *names) == [None] * 5
    durations_s = [figures(store, row, "duration_s")[0] for row in (0, 1, 2)]
    assert durations_s == [None, pytest.approx(0.4), None]
    assert store.column("outcome").tolist() == [OK, OK, CANCELLED]
    assert figures(store, 2, "status", "input_tokens", "output_tokens") == [None] * 3
    costs = token_costs(store, np.arange(store.n))
    assert math.isnan(costs.read_s) and math.isnan(costs.write_s)
    # Nor do these requests make those of a server look fast.
    both = read_streams([write(tmp_path / "server.jsonl", [Made(9)]), tmp_path / "a.jsonl"])
    assert both.n == 4
    assert token_costs(both, np.arange(both.n)) == TokenCosts(0.005, 0.05)


def test_failures_and_interruptions(tmp_path: Path) -> None:
    """Attempts that failed are requests of their own; what the user stopped is cancelled."""
    made = Transcript()
    made.says("Hello", 0)
    made.asks("a", 1)
    overloaded = {"status": 529, "message": "overloaded"}
    made.add("system", 2, subtype="api_error", error=overloaded, retryAttempt=1)
    made.asks("b", 3)
    made.asks("c", 4, base="b", tail=[])
    said = {"role": "assistant", "model": "<synthetic>", "content": [text("API Error: 400 bad")]}
    made.add("assistant", 5, message=said, isApiErrorMessage=True, error="invalid_request")
    made.says("Go on", 6)
    made.asks("d", 7)
    made.answers("d", text("Well"), 8, requestRef="d")
    made.says("[Request interrupted by user]", 9)
    made.add("assistant", 9, message={**said, "content": [text("No response requested.")]})
    store = read_streams([made.write(tmp_path / "a.jsonl")])
    assert [store.ids[row] for row in range(store.n)] == ["a", "b", "c", "d"]
    assert store.column("outcome").tolist() == [ERROR, ERROR, ERROR, CANCELLED]
    assert [figures(store, row, "status")[0] for row in range(4)] == [529, None, 400, 499]
    kinds = [store.text("error_type", row) for row in range(4)]
    assert kinds == ["api_error", "retried", "invalid_request", ""]
    assert [figures(store, row, "duration_s")[0] for row in range(4)] == [1, None, 1, 2]
    assert detail(store, 0)["errors"][0]["message"] == "overloaded"


def project(folder: Path) -> Path:
    """A session whose agent has started another, one that repeats it, and an early one."""
    main, agent, deep = Transcript(), Transcript(agent="a1"), Transcript(agent="a2")
    main.says("Look", 0)
    main.answers("1", call("toolu_a", "Agent", description="Search"), 2)
    agent.says("Search", 2)
    agent.answers("2", call("toolu_b", "Task", description="Dig"), 4)
    deep.says("Dig", 4)
    deep.answers("3", text("Found"), 5, stop_reason="end_turn")
    # As some versions do: under another name of the request.
    deep.answers("1", text("again"), 5.5)
    place = folder / "-home-me-project"
    main.write(place / f"{SESSION}.jsonl")
    for made, name, kind, by in ((agent, "a1", "Explore", "toolu_a"), (deep, "a2", "", "toolu_b")):
        path = made.write(place / SESSION / "subagents" / f"agent-{name}.jsonl")
        meta = {"agentType": kind, "toolUseId": by, "spawnDepth": int(name[1]), "description": "D"}
        path.with_suffix(".meta.json").write_text(json.dumps(meta))
    other = Transcript("other")
    other.lines = [{**line, "sessionId": "other"} for line in main.lines]
    other.says("More", 10)
    other.answers("9", text("Sure"), 12)
    other.write(place / "zz.jsonl")
    early = Transcript("early")
    early.says("One", 20, isSidechain=True)
    early.answers("e1", text("1"), 21, isSidechain=True)
    early.write(folder / "-home-me-early" / "early.jsonl")
    return folder


def test_agents_and_repeated_answers(tmp_path: Path) -> None:
    """Each agent has its kind and who started it; what another transcript repeats counts once."""
    place = project(tmp_path / ".claude" / "projects")
    for named in (place, place.parent, place / "-home-me-project"):
        check_place(named)
    store = read_streams([place.parent])
    told = {
        store.ids[row]: tuple(
            store.text(name, row) for name in ("session", "agent", "parent_agent", "agent_name")
        )
        for row in range(store.n)
    }
    assert told == {
        "req_1": (SESSION, "", "", ""),
        "req_2": (SESSION, "a1", "", "Explore"),
        "req_3": (SESSION, "a2", "a1", ""),
        "req_9": ("other", "", "", ""),
        "req_e1": ("early", "task-00000000", "", ""),
    }
    assert read_streams([place / "-home-me-project"]).n == 4


def test_transcripts_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is seen as it begins; an answer is over once it stays quiet."""
    now_ts = START_TS
    made = task(announced=True)
    path = tmp_path / f"{SESSION}.jsonl"
    path.write_bytes(b"")
    feed_of = TranscriptFeed.__init__
    monkeypatch.setattr(
        TranscriptFeed, "__init__", lambda own, place: feed_of(own, place, clock=lambda: now_ts)
    )
    tail, store = Tail([path]), Store()
    outcomes: list[list[Any]] = []
    for at_s, line in enumerate(made.raw.splitlines(keepends=True)):
        now_ts = START_TS + at_s
        with path.open("ab") as file:
            file.write(line[:-9])
        store.feed(tail.poll())
        with path.open("ab") as file:
            file.write(line[-9:])
        store.feed(tail.poll())
        outcomes.append(store.column("outcome").tolist())
    now_ts = START_TS + 30
    store.feed(tail.poll())
    assert outcomes[1] == [OPEN] and outcomes[-1] == [OK, OPEN]
    assert store.column("outcome").tolist() == [OK, OK]
    assert store.n_lines == store.feed([]) + store.n_lines
    tail.close()


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.booleans())
def test_it_is_the_same_however_it_grew(sizes: list[int], announced: bool) -> None:
    """Line by line, or torn anywhere."""
    raw, at = task(announced=announced).raw, 0
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{SESSION}.jsonl"
        path.write_bytes(raw[: raw.index(b"\n") + 1])
        feed, at = TranscriptFeed(path, clock=lambda: START_TS), path.stat().st_size
        for size in sizes:
            feed.feed(1 << 20)
            with path.open("ab") as file:
                file.write(raw[at : at + size])
            at += size
        with path.open("ab") as file:
            file.write(raw[at:])
        feed.feed(1 << 20)
        feed.close()
        written = feed.path.read_bytes()
        conversion = Conversion()
        lines = (line for each in raw.splitlines() if (line := line_of(each)))
        assert written == b"".join(event for line in lines for event in conversion.take(line))


def test_a_transcript_may_be_compressed_or_lack_its_end(tmp_path: Path) -> None:
    """As any recording; lines of other forms are passed over."""
    raw = task(announced=False).raw
    odd = b'{"type":"summary","summary":"S","leafUuid":"u"}\n{"type":"user","message":7}\n{torn\n'
    odd += b'{"type":"assistant","sessionId":"s","timestamp":"never","message":{"id":"x"}}\n'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(odd + raw))
    (tmp_path / "b.jsonl").write_bytes(odd + raw[:-1])
    for name in ("a.jsonl.gz", "b.jsonl"):
        streams = GrowingStreams([tmp_path / name])
        assert streams.read().n == 2 and streams.n_bad == 0
        assert streams.store.column("outcome").tolist() == [OK, OK]


def test_long_texts_and_pictures_are_not_copied(tmp_path: Path) -> None:
    """A copy is much smaller than the transcripts, and is this user's alone."""
    made = Transcript()
    made.says("Look", 0)
    made.answers("1", call("toolu_1", "Read"), 1)
    picture = {"type": "image", "source": {"type": "base64", "data": "A" * 900_000}}
    made.result("toolu_1", [picture, text("long " * 99_999)], 2)
    made.answers("2", text("Yes"), 3)
    streams = GrowingStreams([made.write(tmp_path / "a.jsonl")])
    assert streams.read().n == 2
    (copy,) = streams.files
    assert copy.stat().st_size < 40_000 and copy.stat().st_mode & 0o777 == 0o600


def test_counts_beyond_what_a_recording_holds_are_told_as_the_most() -> None:
    """As those of a server: its lines can be read."""
    found, many = Conversation(SESSION, "", n_messages=MAX_COUNT + 1), MAX_COUNT + 1
    found.results = [CameBack("toolu_1", True, "", 0, START_TS)] * many
    request, lines = OpenRequest("one", START_TS, START_TS, n_calls=many), EventLines()
    start, *_ = lines.start(found, request, None, "", {})
    end = lines.end(found, request, START_TS, "ok")
    told = [codec.decode(line).attrs for line in (start, end)]
    counts = [
        getattr(attrs, name, None)
        for attrs in told
        for name in ("n_messages", "n_failed_results", "n_tool_calls")
    ]
    assert [count for count in counts if count is not None] == [MAX_COUNT] * 3
