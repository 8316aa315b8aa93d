"""Every figure of report and stats, computed again from the lines with nothing of telemetry/."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.cli.main import main
from tests.corpora.day.stream import lines

DATA = Path(__file__).parents[1] / "data"
NEAR = {"": "memory", "ram": "memory", "flight": "an answer under way"}
Record = dict[str, Any]


def requests(path: Path) -> list[Record]:
    """One record a request, from its lines.

    A result belongs to one call, the last one with its id that has none: answers that are given
    again have the same ids.
    """
    found: dict[str, Record] = {}
    waiting: dict[str, Record] = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        name, attrs = line.get("request_id"), line["attrs"]
        if not name:
            continue
        mine = found.setdefault(name, {"calls": [], "start_ts": line["ts"]})
        mine["session"] = line.get("session_id", "")
        if line["event"] == "request.start":
            mine["agent"] = attrs.get("gen_ai.agent.id", "")
            mine["asked"] = attrs.get("gen_ai.request.model", "")
        elif line["event"] == "tool_call":
            mine["calls"].append(attrs)
            waiting[attrs.get("gen_ai.tool.call.id", "")] = attrs
        elif line["event"] == "tool_result":
            if (call := waiting.pop(attrs["gen_ai.tool.call.id"], None)) is not None:
                call["result"] = attrs
        elif line["event"] == "request.end":
            mine["end"], mine["end_ts"] = attrs, line["ts"]
    return list(found.values())


def rank(values: Iterable[float | None], percent: int) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[math.ceil(percent / 100 * len(known)) - 1] if known else None


def known_tokens(end: Record) -> int:
    """Prompt tokens from a cache."""
    if end.get("mlx.cache.result") == "exact":
        return int(end.get("gen_ai.usage.input_tokens", 0))
    return int(end.get("gen_ai.usage.cache_read.input_tokens", 0))


def judged_tokens(end: Record) -> int:
    """Prompt tokens, if it is known how many of them came from a cache."""
    is_exact = end.get("mlx.cache.result") == "exact"
    is_judged = is_exact or "gen_ai.usage.cache_read.input_tokens" in end
    return int(end.get("gen_ai.usage.input_tokens", 0)) if is_judged else 0


def totals(ended: list[Record]) -> Record:
    """Figures of a group."""
    ends = [each["end"] for each in ended]
    good = [end for end in ends if end["outcome"] == "ok"]
    durations = [end["gen_ai.server.request.duration"] for end in good]
    return {
        "n_requests": len(ends),
        "n_errors": sum(end["outcome"] == "error" for end in ends),
        "n_cancelled": sum(end["outcome"] == "cancelled" for end in ends),
        "input_tokens": sum(end.get("gen_ai.usage.input_tokens", 0) for end in ends),
        "output_tokens": sum(end.get("gen_ai.usage.output_tokens", 0) for end in ends),
        "judged_tokens": sum(map(judged_tokens, ends)),
        "cached_tokens": sum(map(known_tokens, ends)),
        "busy_s": sum(end["gen_ai.server.request.duration"] for end in ends),
        "duration_p50_s": rank(durations, 50),
        "duration_p95_s": rank(durations, 95),
        "ttft_p50_s": rank((end.get("gen_ai.server.time_to_first_token") for end in good), 50),
        "first_ts": min(each["start_ts"] for each in ended),
        "last_ts": max(each["end_ts"] for each in ended),
    }


def saved_s(ends: list[Record]) -> float:
    """At its own speed if it computed 64 tokens, else at the median of the last 5,000 requests."""
    good = [e for e in ends if e["outcome"] == "ok"]
    last = [e for e in ends[-5_000:] if e["outcome"] == "ok"]
    computed = [e for e in last if e.get("mlx.cache.result") != "exact"]
    told = [rate for rate in map(own_s, computed) if rate is not None]
    usual_s = statistics.median(told)
    n_out = sum(e.get("gen_ai.usage.output_tokens", 0) for e in computed)
    write_s = sum(e.get("mlx.decode_s", 0) for e in computed) / n_out
    whole = [e for e in good if e.get("mlx.cache.result") == "exact"]
    repeated = sum(e.get("gen_ai.usage.output_tokens", 0) for e in whole)
    owns = [(known_tokens(e), own_s(e)) for e in good]
    read_s = sum(n * (usual_s if own is None else own) for n, own in owns)
    return float(read_s + repeated * write_s)


def own_s(end: Record) -> float | None:
    """Seconds that a token of its prompt took."""
    n_new = judged_tokens(end) - known_tokens(end)
    return end["mlx.prefill_s"] / n_new if n_new >= 64 else None


def recomputed(path: Path) -> Record:
    """What the report should say."""
    every = requests(path)
    ended = [each for each in every if "end" in each]
    ends = [each["end"] for each in ended]
    good = [end for end in ends if end["outcome"] == "ok"]
    total = totals(ended)
    keys = {
        "duration": "gen_ai.server.request.duration",
        "ttft": "gen_ai.server.time_to_first_token",
        "queue": "mlx.queue_s",
        "prefill": "mlx.prefill_s",
        "decode": "mlx.decode_s",
    }
    values = {name: [end.get(key) for end in good] for name, key in keys.items()}
    hits: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for end in ends:
        if known_tokens(end) or end.get("mlx.cache.result") == "exact":
            tier = end.get("mlx.cache.tier", "")
            hits[NEAR.get(tier, tier)][0] += 1
            hits[NEAR.get(tier, tier)][1] += known_tokens(end)
    exact = sum(known_tokens(end) for end in ends if end.get("mlx.cache.result") == "exact")
    whole = [end for end in good if end.get("mlx.cache.result") == "exact"]
    return {
        **{key: total[key] for key in ("n_requests", "n_errors", "n_cancelled", "busy_s")},
        **{key: total[key] for key in ("input_tokens", "output_tokens")},
        "n_ok": len(good),
        "n_open": 0,
        "n_lost": len(every) - len(ended),
        "n_tool_calls": sum(len(each["calls"]) for each in ended),
        "errors": dict(Counter(e["error.type"] for e in ends if e["outcome"] == "error")),
        "misses": dict(
            Counter(e["mlx.cache.miss_reason"] for e in ends if e.get("mlx.cache.miss_reason"))
        ),
        "times": {
            name: {
                **{f"p{percent}": rank(found, percent) for percent in (50, 95, 99)},
                "n": sum(each is not None for each in found),
            }
            for name, found in values.items()
        },
        "tiers": {name: {"n_requests": n, "n_tokens": k} for name, (n, k) in hits.items()},
        "hits": tuple(
            known / total["judged_tokens"] for known in (exact, total["cached_tokens"] - exact)
        ),
        "saved": {
            "tokens": sum(map(known_tokens, good)),
            "of_tokens": sum(map(judged_tokens, good)),
            "answer_tokens": sum(e.get("gen_ai.usage.output_tokens", 0) for e in whole),
            "seconds": saved_s(ends),
        },
    }


def grouped(path: Path, name: str) -> dict[str, Record]:
    """The same by model, session or agent."""
    found: dict[str, list[Record]] = defaultdict(list)
    for each in requests(path):
        if "end" in each:
            keys = {
                "models": each["end"].get("gen_ai.response.model") or each.get("asked", ""),
                "sessions": each["session"] or "(no session)",
                "agents": each.get("agent", "") or "main",
            }
            found[keys[name] or "(unknown)"].append(each)
    return {key: totals(own) for key, own in found.items()}


def tools(path: Path) -> dict[str, Record]:
    found: dict[str, Record] = defaultdict(Counter)
    took: dict[str, list[float | None]] = defaultdict(list)
    for each in requests(path):
        named = set()
        for call in each["calls"] if "end" in each else ():
            name = call.get("gen_ai.tool.name") or "(unreadable)"
            named.add(name)
            found[name]["n"] += 1
            found[name]["n_unreadable"] += not call.get("mlx.tool.parse_ok", True)
            found[name]["n_invalid"] += call.get("mlx.tool.schema_valid") is False
            found[name]["n_repaired"] += bool(call.get("mlx.tool.repaired"))
            found[name]["argument_bytes"] += call.get("mlx.tool.arguments_bytes", 0)
            if result := call.get("result"):
                found[name]["n_results"] += 1
                found[name]["n_failed"] += result["mlx.tool.failed"]
                took[name].append(result.get("mlx.tool.elapsed_s"))
        for name in named:
            found[name]["n_requests"] += 1
    return {name: {**Counter(uses), "p95_s": rank(took[name], 95)} for name, uses in found.items()}


@pytest.fixture(params=["day.jsonl", "made-up"], scope="module")
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded day, and a made-up one."""
    if request.param != "made-up":
        return DATA / str(request.param)
    path = tmp_path_factory.mktemp("day") / "day.jsonl"
    path.write_bytes(b"".join(lines(1, 5)))
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Record:
    assert main([*words, "--json"]) == 0
    found: Record = json.loads(capsys.readouterr().out)
    return found


def same(got: Any, wanted: Any) -> bool:
    """Equal; times up to the store's precision of seconds."""
    if isinstance(wanted, dict):
        return got.keys() >= wanted.keys() and all(same(got[key], wanted[key]) for key in wanted)
    if isinstance(wanted, float):
        return bool(got == pytest.approx(wanted, rel=2e-6))
    return bool(got == wanted)


def test_report_and_stats_are_what_the_lines_say(
    stream: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Totals, percentiles, tiers, reasons, savings; by model, session, agent and tool."""
    report, stats = told(capsys, "report", str(stream)), told(capsys, "stats", str(stream))
    wanted = recomputed(stream)
    exact, prefix = wanted.pop("hits")
    for found in (report, stats):
        for name, value in wanted.items():
            assert same(found[name], value), (name, found[name], value)
        assert found["hits"]["exact"] == pytest.approx(exact)
        assert found["hits"]["prefix"] == pytest.approx(prefix)
        assert found["tiers"].keys() == wanted["tiers"].keys()
    for name in ("models", "sessions", "agents"):
        groups = {each.pop("name"): each for each in report[name]}
        again = grouped(stream, name)
        assert same(groups, again), name
        assert groups.keys() == again.keys()
    called = tools(stream)
    assert report["tools"].keys() == called.keys()
    for name, uses in report["tools"].items():
        assert same(uses, {key: called[name].get(key, 0) for key in uses})


def test_money_is_tokens_times_prices(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cached tokens at their own price; only answers cost."""
    money = told(capsys, "report", str(stream), "--price", "3,0.3,15")["money"]
    known = recomputed(stream)["saved"]["tokens"]
    ends = [each["end"] for each in requests(stream) if "end" in each]
    good = [end for end in ends if end["outcome"] == "ok"]
    n_read, n_written = (
        sum(end.get(f"gen_ai.usage.{name}_tokens", 0) for end in good)
        for name in ("input", "output")
    )
    cost = (3 * (n_read - known) + 0.3 * known + 15 * n_written) / 1e6
    assert money["cost"] == pytest.approx(cost)
    assert money["saved"] == pytest.approx(2.7 * known / 1e6)
