"""A made-up day could have been written by a server: in order, whole, with everything in it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.schema.codec import Line, decode
from mlxdeck.telemetry.schema.events import RequestEnd
from mlxdeck.telemetry.schema.json_schema import json_schema
from tests.corpora.day.stream import lines


@pytest.fixture(scope="module")
def raw() -> list[bytes]:
    """Eight hours."""
    return list(lines(8, seed=1))


@pytest.fixture(scope="module")
def told(raw: list[bytes]) -> list[Line]:
    """The same, decoded."""
    return [decode(line) for line in raw]


def digest(made: list[bytes]) -> str:
    """Of lines."""
    return hashlib.sha256(b"".join(made)).hexdigest()


def test_a_seed_decides_every_line() -> None:
    """Of a short day as of a long one, and with more people, too."""
    first, again, other = (list(lines(0.5, seed)) for seed in (1, 1, 2))
    assert digest(first) == digest(again) != digest(other)
    more = list(lines(0.5, 1, people=12))
    assert len(more) > 1.3 * len(first)


def test_every_line_fits_the_schema(raw: list[bytes]) -> None:
    """Each kind of event as often as it is likely to differ."""
    validator = jsonschema.Draft202012Validator(json_schema())
    n_looked = Counter[str]()
    for line in map(json.loads, raw):
        n_looked[line["event"]] += 1
        if n_looked[line["event"]] <= 60:
            validator.validate(line)
    assert set(n_looked) == {
        *("stream.start", "server.stop", "request.start", "cache.lookup"),
        *("request.first_token", "tool_call", "request.end", "error", "tick"),
    }


def test_lines_are_in_order_and_none_is_missing(told: list[Line]) -> None:
    """By time over all processes, by number within each; a process begins with its header."""
    assert all(a.ts <= b.ts for a, b in itertools.pairwise(told))
    for pid in {line.pid for line in told}:
        own = [line for line in told if line.pid == pid]
        assert [line.seq for line in own] == list(range(len(own)))
        assert own[0].event == "stream.start"
        assert all(a.mono <= b.mono for a, b in itertools.pairwise(own))


def test_each_request_has_one_end_behind_everything_else(told: list[Line]) -> None:
    """All but those that were running as the server was killed."""
    events: dict[str, list[str]] = {}
    for line in told:
        if line.request_id:
            events.setdefault(line.request_id, []).append(line.event)
    unended = 0
    for names in events.values():
        assert names[0] == "request.start"
        assert names.count("request.start") == 1
        assert names.count("request.end") <= 1
        if "request.end" in names:
            assert names[-1] == "request.end"
        else:
            unended += 1
    assert 1 <= unended <= 16
    assert len(events) > 3000


def test_the_store_reads_a_day_as_it_is(raw: list[bytes], tmp_path: Path) -> None:
    """Every line, and the requests that were lost with the killed process are known as lost."""
    path = tmp_path / "mlxdeck-20260921-131320-7.jsonl"
    path.write_bytes(b"".join(raw))
    store = read([path])
    assert store.n_lines == len(raw)
    assert store.n_unknown == 0
    assert store.n_open == 0
    assert 8 * 3600 - 60 < store.last_ts - store.first_ts <= 8 * 3600


def values(told: list[Line], event: str, name: str) -> Counter[Any]:
    """How often each value of an attribute occurs."""
    return Counter(getattr(line.attrs, name) for line in told if line.event == event)


def test_everything_happens(told: list[Line]) -> None:
    """Outcomes, errors, caches, reasons for misses, tool calls of every kind; and idle times."""
    ends = values(told, "request.end", "status")
    assert set(ends) == {200, 400, 499, 500, 529}
    assert {"end_turn", "tool_use", "max_tokens"} <= {
        reason for reasons in values(told, "request.end", "finish_reasons") for reason in reasons
    }
    assert "loop" in values(told, "request.end", "ended_by")
    assert len(values(told, "request.end", "let_go")) > 1
    messages = " ".join(values(told, "error", "message"))
    for part in ("too long", "waiting already", "has stopped", "no progress", "failed", "expected"):
        assert part in messages, part
    lookups = [line.attrs for line in told if line.event == "cache.lookup"]
    seen = {(look.cache, look.result, look.tier, look.miss_reason) for look in lookups}  # type: ignore[union-attr]
    assert {tier for name, _, tier, _ in seen if name == "exact"} == {"", "ram", "disk", "flight"}
    assert {tier for name, _, tier, _ in seen if name == "prefix"} == {"", "ram", "disk"}
    reasons = {reason for *_, reason in seen}
    wanted = ("cold", "diverged", "evicted", "expired", "not_kept", "model_changed", "bypassed")
    assert set(wanted) <= reasons
    blocks = values(told, "cache.lookup", "diverged_block")
    assert {"system", "tools.Lint", "messages.0"} <= set(blocks)
    assert values(told, "tool_call", "parse_ok")[False] > 10
    assert values(told, "tool_call", "schema_valid")[False] > 10
    assert values(told, "tool_call", "repaired")[True] > 10
    assert len(values(told, "request.start", "agent_id")) > 100
    assert len(values(told, "request.start", "parent_agent_id")) > 1
    assert len(values(told, "stream.start", "model")) == 2
    assert values(told, "tick", "active")[0] > 100


def test_figures_add_up(told: list[Line]) -> None:
    """Times are within a request's own, cached tokens within its prompt; the unknown is absent."""
    ends = [line.attrs for line in told if isinstance(line.attrs, RequestEnd)]
    for end in ends:
        phases = (end.queue_s, end.tokenize_s, end.cache_s, end.prefill_s, end.decode_s)
        assert all(phase is None or phase >= 0 for phase in phases)
        assert sum(phase or 0.0 for phase in phases) <= end.duration_s + 0.01
        assert (end.cached_tokens or 0) <= (end.input_tokens or 0)
        assert (end.ttft_s or 0.0) <= end.duration_s
        if end.status in (400, 529):
            assert end.ttft_s is end.input_tokens is end.decode_s is None
