"""`GET /metrics`: what scrapers and alerts go by."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.server.http import running


async def test_requests_and_tokens_are_told_apart() -> None:
    """Hits count requests, tokens are counted beside them, and repeats are not generated."""
    async with running() as server:
        for text in ("hello", "hello", "hello there"):
            await server.ask(text)
        await server.http.post("/v1/messages", content=b"{}")
        ends = await server.ended(4)
        raw = (await server.http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(raw)}
    value = {name: each.samples[0].value for name, each in families.items()}
    computed = [end for end in ends if end.cache_result in ("miss", "prefix")]
    assert (value["mlxdeck_requests"], value["mlxdeck_errors"]) == (4, 1)
    assert value["mlxdeck_exact_cache_hits"] == 1
    assert value["mlxdeck_prefix_cache_hits"] + value["mlxdeck_prefix_cache_misses"] == 2
    assert value["mlxdeck_prefix_cache_hit_tokens"] == sum(end.cached_tokens for end in computed)
    assert value["mlxdeck_generation_tokens"] == sum(end.output_tokens for end in computed)
    assert value["mlxdeck_repeated_tokens"] == ends[1].output_tokens > 0


async def test_times_are_told_in_buckets_by_what_happened() -> None:
    """Dialect, outcome and cache; no time that is not known."""
    async with running() as server:
        for _ in range(2):
            await server.ask("hello")
        body = {"model": "local", "messages": [{"role": "user", "content": "hi"}]}
        await server.http.post("/v1/chat/completions", json=body)
        await server.http.post("/v1/messages", content=b"{}")
        await server.ended(4)
        raw = (await server.http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(raw)}

    def counted(name: str) -> dict[tuple[str, str, str], float]:
        samples = families[f"mlxdeck_{name}_seconds"].samples
        return {
            (each.labels["dialect"], each.labels["outcome"], each.labels["cache"]): each.value
            for each in samples
            if each.name.endswith("_count")
        }

    answers = {
        **{("anthropic", "ok", "miss"): 1, ("anthropic", "ok", "exact"): 1},
        ("openai", "ok", "prefix"): 1,
    }
    assert counted("request_duration") == answers | {("anthropic", "error", "none"): 1}
    assert counted("time_to_first_token") == answers
    assert ("anthropic", "ok", "exact") not in counted("queue")
    for family in families.values():
        for sample in family.samples:
            assert sample.value >= 0
