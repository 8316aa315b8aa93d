"""`GET /metrics`: what scrapers and alerts go by."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from mlxdeck.server.observe.totals import MAX_MODELS, Totals
from mlxdeck.telemetry.schema.events import RequestEnd, RequestStart
from tests.server.http import Running, running

DOCS = Path(__file__).parents[3] / "docs"
TIMES = {
    "e2e_request_latency": "gen_ai.server.request.duration",
    "time_to_first_token": "gen_ai.server.time_to_first_token",
    "request_queue_time": "mlx.queue_s",
    "request_time_per_output_token": "gen_ai.server.time_per_output_token",
}
CALL = '<tool_call>{"name": "Read", "arguments": {"path": "a"}}</tool_call>'
TOOL = {"name": "Read", "input_schema": {"type": "object"}}


async def scraped(server: Running) -> dict[str, Metric]:
    """The families of `GET /metrics` by name."""
    raw = (await server.http.get("/metrics")).text
    return {family.name: family for family in text_string_to_metric_families(raw)}


async def answered(server: Running) -> list[dict[str, Any]]:
    """Ask for known, new, broken and cut answers; the attributes of each end as JSON has them."""
    for text in ("hello", "hello", "hello there", CALL):
        await server.ask(text, tools=[TOOL])
    await server.ask("cut off", max_tokens=2)
    chat = {"model": "local", "messages": [{"role": "user", "content": "hi"}]}
    await server.http.post("/v1/chat/completions", json=chat)
    for path in ("messages", "responses"):
        await server.http.post(f"/v1/{path}", content=b"{}")
    ends = await server.ended(8)
    return [json.loads(msgspec.json.encode(end)) for end in ends]


def total(family: Metric, *labels: str) -> dict[Any, float]:
    """The samples of a counter, by the values of some labels."""
    return {
        tuple(each.labels[label] for label in labels): each.value
        for each in family.samples
        if each.name.endswith("_total")
    }


async def test_counters_equal_what_telemetry_says() -> None:
    """Requests by how they ended, and tokens by where they came from."""
    async with running() as server:
        ends = await answered(server)
        found = await scraped(server)
    value = {name: each.samples[0].value for name, each in found.items() if each.samples}
    computed = [end for end in ends if end.get("mlx.cache.result") in ("miss", "prefix")]
    exact = [end for end in ends if end.get("mlx.cache.result") == "exact"]

    def summed(rows: list[dict[str, Any]], name: str) -> int:
        return sum(end.get(name, 0) for end in rows)

    assert value["mlxdeck_requests"] == len(ends) == 8
    errors = Counter((end["error.type"],) for end in ends if end["outcome"] == "error")
    assert total(found["mlxdeck_request_errors"], "type") == errors and errors.total() == 2
    reasons = Counter(
        tuple(end["gen_ai.response.finish_reasons"]) for end in ends if end["outcome"] == "ok"
    )
    assert total(found["mlxdeck_request_success"], "finished_reason") == reasons
    assert set(reasons) == {("end_turn",), ("tool_use",), ("max_tokens",)}
    assert value["mlxdeck_tool_calls"] == summed(ends, "mlx.tool_calls") == 1
    assert value["mlxdeck_exact_cache_hits"] == len(exact) == 1
    assert value["mlxdeck_exact_cache_misses"] == len(computed) == 5
    assert value["mlxdeck_prompt_tokens"] == summed(ends, "gen_ai.usage.input_tokens")
    queries = summed(computed, "gen_ai.usage.input_tokens")
    assert value["mlxdeck_prefix_cache_queries"] == queries
    hits = summed(computed, "gen_ai.usage.cache_read.input_tokens")
    assert value["mlxdeck_prefix_cache_hits"] == hits
    assert value["mlxdeck_generation_tokens"] == summed(computed, "gen_ai.usage.output_tokens")
    assert value["mlxdeck_repeated_tokens"] == summed(exact, "gen_ai.usage.output_tokens") > 0
    assert found["mlxdeck_build_info"].samples[0].labels["model"] == "echo"


@pytest.mark.parametrize("name", TIMES)
async def test_times_equal_what_telemetry_says(name: str) -> None:
    """Number, sum and buckets by API, model, outcome and cache; no time that is not known."""
    async with running() as server:
        ends = await answered(server)
        starts = [
            line.attrs.dialect
            for line in server.telemetry.named("request.start")
            if isinstance(line.attrs, RequestStart)
        ]
        family = (await scraped(server))[f"mlxdeck_{name}_seconds"]
    expected: dict[tuple[str, ...], list[float]] = {}
    for dialect, end in zip(starts, ends, strict=True):
        labels: tuple[str, ...] = (
            dialect,
            "echo",
            end["outcome"],
            end.get("mlx.cache.result", "none"),
        )
        if TIMES[name] in end:
            expected.setdefault(labels, []).append(end[TIMES[name]])
    kinds = ("dialect", "model", "outcome", "cache")
    samples = [(tuple(each.labels[k] for k in kinds), each) for each in family.samples]
    counted = {labels: each.value for labels, each in samples if each.name.endswith("_count")}
    assert counted == {labels: len(times) for labels, times in expected.items()}
    for labels, each in samples:
        if each.name.endswith("_sum"):
            assert each.value == pytest.approx(sum(expected[labels]))
        elif each.name.endswith("_bucket"):
            below = [time for time in expected[labels] if time <= float(each.labels["le"])]
            assert each.value == len(below)


def test_model_names_of_clients_are_bounded() -> None:
    """An upstream may serve any name; the labels stay few."""
    totals = Totals()
    for n in range(3 * MAX_MODELS):
        totals.ended("openai", RequestEnd(model=f"m{n % (2 * MAX_MODELS)}", duration_s=1), True)
    models = {labels.model for labels in totals.times["duration_s"]}
    assert models == {*(f"m{n}" for n in range(MAX_MODELS)), "other"}


def test_a_rate_of_hits_is_of_prompts_that_were_looked_up() -> None:
    """Another server mostly doesn't tell what it knew of a prompt."""
    totals = Totals()
    known = RequestEnd(input_tokens=1000, cached_tokens=600, duration_s=1)
    for end in (known, RequestEnd(input_tokens=5000, duration_s=1)):
        totals.ended("openai", end, True)
    assert (totals.looked_up_tokens, totals.cached_tokens) == (1000, 600)
    assert totals.input_tokens == 6000


async def test_documents_name_what_is_exported() -> None:
    """The page lists each metric, and the Grafana dashboard asks for no other one."""
    async with running() as server:
        await server.ask("hello")
        found = await scraped(server)
    page = (DOCS / "metrics.md").read_text("utf-8")
    assert set(re.findall(r"`(mlxdeck_\w+?)(?:_total)?`", page)) == set(found)
    dashboard = json.loads((DOCS / "examples" / "grafana" / "dashboard.json").read_text("utf-8"))
    asked = [each["expr"] for panel in dashboard["panels"] for each in panel.get("targets", ())]
    names = set(re.findall(r"mlxdeck_\w+", " ".join(asked)))
    known = {sample.name for family in found.values() for sample in family.samples}
    counters = {f"{name}_total" for name, each in found.items() if each.type == "counter"}
    assert names <= known | counters and len(names) >= 12
