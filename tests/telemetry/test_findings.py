"""Findings: each is found where it was planted, and nothing on clean traffic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlxdeck.telemetry.analyze.finding import ReportFinding
from mlxdeck.telemetry.analyze.findings import findings
from mlxdeck.telemetry.analyze.shown_names import ShownNames
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import LOST
from tests.corpora.day.stream import lines
from tests.streams import NAME, Stream, read_streams
from tests.telemetry.planted import PLANTED, WINDOW, clean, planted, session, write

DATA = Path(__file__).parents[1] / "data"


def found(path: Path, names: ShownNames | None = None) -> list[ReportFinding]:
    store = read_streams([path])
    return findings(store, store.by_end.rows, names)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_alone(tmp_path: Path, name: str) -> None:
    """By its name, with evidence, advice and requests that exist; and nothing else is found."""
    path = planted(tmp_path, name)
    (one,) = found(path)
    assert one.name == name
    assert one.evidence and one.advice and one.title.endswith(".")
    assert one.requests and len(one.requests) <= one.n_requests
    text = path.read_text()
    assert all(f'"{request}"' in text for request in one.requests)


def test_all_planted_faults_are_found_together(tmp_path: Path) -> None:
    """None hides another; what costs most is first."""
    together = found(planted(tmp_path, *PLANTED))
    assert {each.name for each in together} == set(PLANTED)
    costs = [each.saves_s or 0 for each in together]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("name", ["recording.jsonl", "v1.jsonl"])
def test_nothing_is_found_in_a_clean_recording(name: str) -> None:
    """Sessions in which all went well, with the few errors of any day."""
    assert found(DATA / name) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_found_in_a_usual_day(tmp_path: Path, seed: int) -> None:
    """A made-up day with restarts, a new tool, impatient people and a few failures."""
    path = tmp_path / NAME
    path.write_bytes(b"".join(lines(8, seed)))
    assert found(path) == []


def test_nothing_is_found_without_requests_or_faults(tmp_path: Path) -> None:
    """Clean sessions alone, and none at all."""
    path = planted(tmp_path)
    assert found(path) == []
    store = read_streams([path])
    assert findings(store, store.by_end.rows[:0]) == []


def test_a_recorded_day_with_every_outcome_shows_what_was_done_to_it() -> None:
    """The cache was too small, system prompts differed, agents came at once, some failed."""
    names = {each.name for each in found(DATA / "day.jsonl")}
    assert names == {"evicted", "same_block", "queueing", "requests_fail", "unused_tools"}


def test_savings_are_the_tokens_that_were_computed_twice(tmp_path: Path) -> None:
    """Of an evicted conversation: all that the turn before had, less what was still known."""
    (one,) = found(planted(tmp_path, "evicted"))
    # Turn n begins with 10,000 + 500 n tokens of the turn before; 1,000 were still known.
    lost = [10_000 + 500 * n - 1_000 for n in range(1, 14)]
    assert (one.n_requests, one.saves_tokens) == (13, sum(lost))
    assert one.saves_s == pytest.approx(sum(lost) / 1000, rel=1e-5)


def test_an_unused_tool_costs_its_tokens_in_every_prompt(tmp_path: Path) -> None:
    """Named with the costliest first; those that are called are not."""
    (one,) = found(planted(tmp_path, "unused_tools"))
    # Bash, with 500 tokens, is not called either.
    assert one.evidence[0] == "3 tools: mcp__mail, mcp__maps, Bash"
    assert one.evidence[1].startswith("56,400 prompt tokens in 12 requests")


def test_answers_that_loop_are_some_of_all_answers(tmp_path: Path) -> None:
    """Not of the requests: those that failed are no answers."""
    loops = session("loops", 10, ended_by="loop", outcome="ok")
    failed = session("failed", 2, outcome="error", status=500, error_type="api_error", calls=())
    (one,) = found(write(tmp_path / NAME, [*clean(), *loops, *failed]))
    assert one.evidence[0] == "the loop guard ended 10 of 58 answers"


def test_an_answer_that_may_be_short_is_not_cut(tmp_path: Path) -> None:
    """A client that allows few tokens wants no more."""
    short = session("titles", 30, finish="max_tokens", output_tokens=64, max_tokens=64)
    assert found(write(tmp_path / NAME, [*clean(), *short])) == []


@pytest.mark.parametrize("windows", [(14_000, WINDOW), (WINDOW, 14_000)])
def test_a_conversation_is_near_the_window_of_its_own_server(
    tmp_path: Path, windows: tuple[int, int]
) -> None:
    """Of several servers in one folder, whichever was started last."""
    turns = [turn for number in range(3) for turn in session(f"long {number}", 4)]
    near = [replace(turn, input_tokens=12_000, cached_tokens=11_600) for turn in turns]
    for number, window in enumerate(windows):
        write(tmp_path / f"{number}-{NAME}", near, began_s=1e5 * number, window=window)
    (one,) = found(tmp_path)
    assert (one.name, one.n_requests) == ("long_conversations", len(near))
    assert "the window of 14,000 tokens" in one.evidence[0]
    first = "req_0_" if windows[0] == 14_000 else "req_100000_"
    assert all(request.startswith(first) for request in one.requests)


def test_a_full_queue_tells_who_was_refused_and_no_wait_that_was_none(tmp_path: Path) -> None:
    """Requests that are refused at once wait for nothing."""
    refused = session(
        "refused", 20, outcome="error", status=529, error_type="overloaded_error",
        reached="prepare", calls=(),
    )  # fmt: skip
    (one,) = found(write(tmp_path / NAME, [*clean(), *refused]))
    assert (one.name, one.saves_s) == ("queueing", None)
    assert one.evidence == ("20 requests were refused: the queue was full",)


def test_how_far_a_request_came_is_what_it_reported(tmp_path: Path) -> None:
    """Those that are left without a first token: most tell no time of their phase."""
    states = ("prepare", "wait", "prefill", "decode")
    stream, lines = Stream(), list[bytes]()
    for number in range(12):
        name, state = f"req_{number}", states[number % 4]
        told = t.RequestProgress(state=state, prompt_tokens=900, cached_tokens=0, read_tokens=0)
        end = t.RequestEnd(outcome="cancelled", status=499, input_tokens=900, duration_s=1.0)
        lines += [
            stream.line(t.RequestStart(), 2 * number, name),
            stream.line(told, 2 * number + 0.5, name),
            stream.line(end, 2 * number + 1, name),
        ]
    (tmp_path / NAME).write_bytes(b"".join(lines))
    (one,) = found(tmp_path / NAME)
    assert one.evidence[0] == "12 requests of 12: 6 in the queue, 3 in prefill, 3 in decode"


def test_a_request_that_another_server_had_was_in_no_queue_here(tmp_path: Path) -> None:
    """Its client left before anything came."""
    left = session("left", 40, outcome="cancelled", status=499, provider="openai", reached="queue")
    (one,) = found(write(tmp_path / NAME, left))
    assert one.evidence[0] == "40 requests of 40: 40 while another server had it"


def test_servers_that_died_are_found_with_what_they_lost(tmp_path: Path) -> None:
    """One request is enough, whatever else went well; the phase is what it reported."""
    path, stream = planted(tmp_path), Stream(pid=99)
    reading = t.RequestProgress(state="prefill", prompt_tokens=90, cached_tokens=0, read_tokens=9)
    with path.open("ab") as file:
        file.write(stream.line(t.RequestStart(), 5_000, "req_lost", "s"))
        file.write(stream.line(reading, 5_007, "req_lost", "s"))
    store = read_streams([path])
    ends = store.by_end.rows
    is_lost = store.column("outcome")[ends] == LOST
    (one,) = findings(store, ends[~is_lost], lost=ends[is_lost])
    assert (one.name, one.requests, one.n_requests) == ("servers_died", ("req_lost",), 1)
    assert one.evidence[0] == "1 request lost with 1 server: 1 in prefill"
    assert one.advice


def test_a_shared_finding_names_nobody(tmp_path: Path) -> None:
    """Numbers in place of sessions, tools, models and requests."""
    for each in found(planted(tmp_path, *PLANTED), ShownNames(anonymous=True)):
        text = " ".join((each.title, *each.evidence, *each.requests))
        assert "mcp" not in text and "made-up" not in text and "req_" not in text
        assert "not allowed" not in text and "big" not in text.replace("bigger", "")
