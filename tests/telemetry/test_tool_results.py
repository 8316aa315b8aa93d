"""Results of tool calls: joined to their calls, counted by tool, read from captured messages."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.analyze.tool_results import results
from mlxdeck.telemetry.analyze.usage import tool_uses
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store import call_results
from mlxdeck.telemetry.store.store import Store
from tests import streams
from tests.streams import START_TS, Stream

CALLS = tuple(t.ToolCall(name=name, call_id=f"toolu_{name}") for name in ("Read", "Bash"))


def told(name: str, **figures: object) -> t.CallResult:
    """What a client said of a call."""
    return t.CallResult(name=name, call_id=f"toolu_{name}", **figures)  # type: ignore[arg-type]


def lines() -> list[bytes]:
    """Two calls in one answer; the next request brings both results, one of a failure."""
    stream = Stream()
    return [
        stream.line(t.RequestStart(), 1, "req_1", "one"),
        *(stream.line(call, 2, "req_1", "one") for call in CALLS),
        stream.line(t.RequestEnd(), 2, "req_1", "one"),
        stream.line(t.RequestStart(n_failed_results=1), 4, "req_2", "one"),
        stream.line(told("Read", result_bytes=900, elapsed_s=1.5), 4, "req_2", "one"),
        stream.line(
            told("Bash", failed=True, result_bytes=7, elapsed_s=2.0, text="exit 1."),
            *(4, "req_2", "one"),
        ),
        stream.line(t.RequestEnd(), 5, "req_2", "one"),
    ]


def stored(pieces: Sequence[bytes]) -> Store:
    """A store that was fed with pieces of a file."""
    store = Store()
    for raw in pieces:
        found = batch(Path("x.jsonl"), raw)
        store.feed([found] if found else [])
    return store


@given(st.permutations(range(8)))
def test_results_are_counted_as_of_a_moment(order: list[int]) -> None:
    """In any order; all of them are looked at once a moment, and not at all for the present."""
    store = stored([lines()[place] for place in order])
    for at_s, n in ((3, 0), (4, 2), (9, 2)):
        for _ in range(5):
            assert store.results.until(START_TS + at_s) == n
    assert store.results.n_scanned == 1


@given(st.permutations(range(8)), st.integers(1, 8))
def test_calls_and_results_find_each_other_in_any_order(order: list[int], size: int) -> None:
    """In pieces of any size, as parts of a file are read, and where a piece is read again."""
    shuffled = [lines()[place] for place in order]
    pieces = [b"".join(shuffled[at : at + size]) for at in range(0, 8, size)]
    store = stored([*pieces, pieces[0]])
    row = store.row_of("req_1")
    uses = tool_uses(store, np.array([row]))
    assert {name: (each.n, each.n_results, each.n_failed) for name, each in uses.items()} == {
        "Read": (1, 1, 0),
        "Bash": (1, 1, 1),
    }
    assert (uses["Read"].p95_s, uses["Bash"].p95_s) == (1.5, 2.0)


@pytest.mark.parametrize("n_results", [1, 2])
@pytest.mark.parametrize("size", range(1, 8))
def test_each_result_belongs_to_one_call(n_results: int, size: int) -> None:
    """An answer that is given again has the same ids; how much is read at once doesn't matter."""
    stream, made = Stream(), list[bytes]()
    for number in (1, 2):
        at_s, name = 10 * number, f"req_{number}"
        made.append(stream.line(t.RequestStart(), at_s, name, "one"))
        made.append(stream.line(CALLS[0], at_s + 1, name, "one"))
        made.append(stream.line(t.RequestEnd(), at_s + 1, name, "one"))
        result = told("Read", elapsed_s=float(number))
        if number <= n_results:
            made.append(stream.line(result, at_s + 2, "req_3", "one"))
    pieces = [b"".join(made[at : at + size]) for at in range(0, len(made), size)]
    store = stored([*pieces, pieces[0]])
    elapsed_s = [1.0, 2.0] if n_results == 2 else [1.0, math.nan]
    np.testing.assert_array_equal(store.calls.elapsed_s, elapsed_s)


def test_no_more_calls_wait_than_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not of one answer that is given again and again."""
    monkeypatch.setattr(call_results, "MAX_WAITING", 2)
    stream = Stream()
    made = [stream.line(CALLS[0], at_s, f"req_{at_s}", "one") for at_s in (1, 2, 3)]
    made += [stream.line(told("Read"), at_s, "req_9", "one") for at_s in (11, 12, 13)]
    store = stored(made)
    assert np.isnan(store.calls.result_ts).tolist() == [True, False, False]
    assert store.results.until(START_TS + 20) == 2


def test_a_result_is_not_known_before_it_came() -> None:
    """Neither in counts nor in the list; the text of one that failed says why."""
    store = stored([b"".join(lines())])
    before = tool_uses(store, np.array([0]), START_TS + 3)
    assert [(each.n_results, each.n_failed) for each in before.values()] == [(0, 0)] * 2
    assert math.isnan(before["Read"].p95_s)
    assert results(store, 0, CALLS, START_TS + 3) == {}
    came = results(store, 0, CALLS)
    assert (came["toolu_Bash"].text, came["toolu_Bash"].failed) == ("exit 1.", True)
    assert came["toolu_Bash"].is_whole and not came["toolu_Read"].is_whole


def captured(later: Sequence[tuple[str, str, list[dict[str, object]]]], folder: Path) -> Store:
    """A request with two calls, and behind it a request of a sub-agent and one that goes on."""
    stream = Stream()
    begun = stream.line(t.RequestStart(message_hashes=("h0",)), 1, "req_1", "one")
    found = [begun, *(stream.line(call, 2, "req_1", "one") for call in CALLS)]
    found.append(stream.line(t.RequestEnd(), 2, "req_1", "one"))
    for n in range(5):
        other = t.RequestStart(agent_id="a1", message_hashes=("x", "y"))
        found.append(stream.line(other, 3 + n / 10, f"req_a{n}", "one"))
    hashes = ("h0", *(name for name, _, _ in later))
    found.append(stream.line(t.RequestStart(message_hashes=hashes), 4, "req_2", "one"))
    for name, role, blocks in later:
        part = t.Content(kind="message", role=role, hash=name, content=json.dumps(blocks))
        found.append(stream.line(part, 4, "req_2", "one"))
    path = folder / streams.NAME
    path.write_bytes(b"".join(found))
    return read([path])


def test_captured_results_are_found_by_the_place_of_their_calls(tmp_path: Path) -> None:
    """Ids in captured messages are not the client's. Agents that work meanwhile don't hide them."""
    calls: list[dict[str, object]] = [
        {"type": "tool_use", "id": f"call0000{n}", "name": name, "input": {}}
        for n, name in ((3, "Read"), (4, "Bash"))
    ]
    came: list[dict[str, object]] = [
        {"type": "tool_result", "tool_use_id": "call00004", "content": "no", "is_error": True},
        {"type": "tool_result", "tool_use_id": "call00003", "content": "text of a.py"},
    ]
    store = captured([("h1", "assistant", calls), ("h2", "user", came)], tmp_path)
    found = results(store, 0, CALLS)
    assert {name: (each.text, each.failed) for name, each in found.items()} == {
        "toolu_Read": ("text of a.py", False),
        "toolu_Bash": ("no", True),
    }
    assert results(store, 0, CALLS, START_TS + 3.9) == {}


def test_content_of_any_form_breaks_nothing(tmp_path: Path) -> None:
    """Blocks of odd types are left out."""
    odd: list[dict[str, object]] = [
        {"type": "tool_use", "id": 5, "name": "Read"},
        {"type": "tool_result", "tool_use_id": ["toolu_Read"]},
        {"type": "tool_result", "tool_use_id": "toolu_Bash", "content": {"type": "image"}},
    ]
    found = results(captured([("h1", "user", odd)], tmp_path), 0, CALLS)
    assert {name: each.text for name, each in found.items()} == {"toolu_Bash": "(image)"}
