"""The recorded day: real telemetry of the real client, in which everything happens."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.schema.codec import Line, decode

DAY = Path(__file__).parents[1] / "data" / "day.jsonl"


@pytest.fixture(scope="module")
def told() -> list[Line]:
    """Every line of it."""
    return [decode(line) for line in DAY.read_bytes().splitlines()]


def values(told: list[Line], event: str, name: str) -> Counter[Any]:
    """How often each value of an attribute occurs."""
    return Counter(getattr(line.attrs, name) for line in told if line.event == event)


def test_the_dashboard_reads_the_whole_day(told: list[Line]) -> None:
    """At least 400 requests in a few megabytes, of several servers one after the other."""
    store = read([DAY])
    assert store.n_lines == len(told)
    assert store.n_unknown == 0
    assert store.n_open == 0
    assert store.n >= 400
    assert DAY.stat().st_size < 4_000_000
    assert len({line.pid for line in told}) == 6
    assert len({line.session_id for line in told if line.session_id}) > 40


def test_nothing_in_it_names_a_machine() -> None:
    """Neither its folders nor its name."""
    content = DAY.read_text(encoding="utf-8")
    assert "/tmp" not in content.replace("/tmp/claude", "")
    assert '"host.name":"host"' in content
    assert content.count('"host.name":') == content.count('"host.name":"host"')


def test_every_outcome_is_in_it(told: list[Line]) -> None:
    """Ends, errors, caches with the reasons for their misses, tool calls, another model."""
    assert {200, 400, 499, 500, 529} <= set(values(told, "request.end", "status"))
    reasons = {r for found in values(told, "request.end", "finish_reasons") for r in found}
    assert {"end_turn", "tool_use", "max_tokens"} <= reasons
    assert values(told, "request.end", "ended_by")["loop"]
    assert len(values(told, "request.end", "let_go")) == 2
    messages = " ".join(values(told, "error", "message"))
    wanted = (
        "too long",
        "waiting already",
        "no progress",
        "out of memory",
        "broke off",
        "expected",
    )
    for part in (*wanted, "field required", "the answer left"):
        assert part in messages, part
    lookups = [line.attrs for line in told if line.event == "cache.lookup"]
    seen = {(each.cache, each.result, each.tier, each.miss_reason) for each in lookups}  # type: ignore[union-attr]
    assert {tier for name, _, tier, _ in seen if name == "exact"} == {"", "ram", "disk", "flight"}
    assert {tier for name, _, tier, _ in seen if name == "prefix"} == {"", "ram", "disk"}
    whole = {reason for name, *_, reason in seen if name == "exact"}
    parts = {reason for name, *_, reason in seen if name == "prefix"}
    assert {"cold", "expired", "not_kept", "model_changed", "disabled", "bypassed"} <= whole
    assert {"cold", "diverged", "evicted", "model_changed"} <= parts
    assert values(told, "tool_call", "parse_ok")[False]
    assert values(told, "tool_call", "schema_valid")[False]
    assert values(told, "tool_call", "repaired")[True]
    assert values(told, "tool_call", "name")["Agent"] > 20
    assert len(values(told, "request.start", "agent_id")) > 40
    assert len(values(told, "request.start", "parent_agent_id")) >= 3
    assert len(values(told, "stream.start", "model")) == 2


def test_a_killed_server_leaves_requests_without_an_end(told: list[Line]) -> None:
    """All others have one, as their last line."""
    events: dict[str, list[str]] = {}
    for line in told:
        if line.request_id:
            events.setdefault(line.request_id, []).append(line.event)
    unended = [names for names in events.values() if "request.end" not in names]
    assert 1 <= len(unended) <= 8
    assert all(n[-1] == "request.end" for n in events.values() if "request.end" in n)
