"""Every figure of the dashboard, held against the recordings' lines, read another way.

Live, the store holds what was written by a moment. In a replay it holds everything, and is looked
at as of that moment. Both have to say what the lines say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.group_totals import RequestTotals
from mlxdeck.telemetry.analyze.session_summary import read as read_store
from mlxdeck.telemetry.analyze.sessions import error_groups, sessions
from mlxdeck.telemetry.analyze.stats import WINDOWS, Window, summary
from mlxdeck.telemetry.analyze.time_series import TimeSeries
from mlxdeck.telemetry.analyze.token_flow import tokens_between
from mlxdeck.telemetry.analyze.window_uses import window_tools, window_uses
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.state.request_query import ORDERS, RequestQuery
from tests import recomputed as again
from tests.recomputed import CACHED, DURATION, IN, OUT, TTFT, Asked, Known, Line, Predicate

DATA = Path(__file__).parents[1] / "data"
NAMES = tuple(sorted(path.stem for path in DATA.glob("*.jsonl")))
FILTERS: dict[str, Predicate] = {
    "": lambda _: True,
    "status:error": lambda each: each.outcome == "error",
    "not status:ok": lambda each: each.outcome != "ok",
    "status:open": lambda each: each.outcome == "open",
    "status:lost": lambda each: each.outcome == "lost",
    "tool:Bash": lambda each: any("bash" in name.lower() for name in each.called),
    "cache:prefix latency>2s": lambda each: (
        each.told("mlx.cache.result", "") == "prefix" and each.told(DURATION) > 2
    ),
    "tokens_in>16k or tools>1": lambda each: (
        each.told(IN) > 16_000 or each.told("mlx.tool_calls") > 1
    ),
    "miss:diverged": lambda each: "diverged" in each.told("mlx.cache.miss_reason", ""),
    "blame:system": lambda each: "system" in each.told("mlx.cache.diverged_block", ""),
    "hit>=90%": lambda each: (
        each.told(IN, 0) > 0 and not math.isnan(each.told(CACHED if not each.is_exact else IN))
        and each.known_tokens / each.told(IN) >= 0.9
    ),
}  # fmt: skip
ORDER_BY = {"duration_s": DURATION, "ttft_s": TTFT, "input_tokens": IN, "output_tokens": OUT}


@cache
def lines_of(name: str) -> tuple[Line, ...]:
    """A recording's lines."""
    return tuple(again.read(DATA / f"{name}.jsonl"))


@cache
def store_of(name: str, moment_ts: float = math.inf) -> Store:
    """A store of those that were written by a moment."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.jsonl"
        kept = [json.dumps(line) for line in lines_of(name) if line["ts"] <= moment_ts]
        path.write_text("\n".join(kept) + "\n")
        return read_store([path])


@cache
def known_at(name: str, moment_ts: float) -> Known:
    """The truth, live."""
    return again.known(lines_of(name), moment_ts)


@cache
def replayed_at(name: str, moment_ts: float) -> Known:
    """The truth in a replay."""
    return again.replayed(lines_of(name), moment_ts)


@cache
def moments(name: str) -> tuple[float, ...]:
    """Some that matter: in between, in the middle of work, to the line, at the end and after it."""
    times = sorted(line["ts"] for line in lines_of(name))
    inside = [times[len(times) * n // 7] for n in range(1, 7)]
    return (*inside, (inside[2] + inside[3]) / 2, times[-1], times[-1] + 3)


@st.composite
def looks(draw: st.DrawFn) -> tuple[str, float, str]:
    """A recording, a moment of it and a filter."""
    name = draw(st.sampled_from(NAMES))
    return name, draw(st.sampled_from(moments(name))), draw(st.sampled_from(list(FILTERS)))


def both(name: str, moment_ts: float) -> Iterator[tuple[Store, Known]]:
    """Live and in a replay, each with the truth."""
    yield store_of(name, moment_ts), known_at(name, moment_ts)
    yield store_of(name), replayed_at(name, moment_ts)


def bounds(known: Known, window: Window, now_s: float) -> tuple[float, float]:
    """What a window holds."""
    if window.length_s is None:
        return min(known.first_ts, now_s - 1), now_s
    return now_s - window.length_s, now_s


def same(got: Any, wanted: Any) -> bool:
    """Equal, up to the precision in which seconds are kept."""
    return bool(got == pytest.approx(wanted, rel=2e-6, nan_ok=True))


exactly = settings(
    max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@exactly
@given(looks(), st.sampled_from(WINDOWS))
def test_totals_are_those_of_the_lines(look: tuple[str, float, str], window: Window) -> None:
    """Counts, percentiles, hit rates and tokens of a window, with and without a filter."""
    name, now_s, text = look
    for store, known in both(name, now_s):
        wanted = again.totals(known.ended(*bounds(known, window, now_s), FILTERS[text]))
        listing = RequestQuery(store)
        listing.set(text)
        got = summary(store, window, now_s, listing.mask)
        assert (got.n_requests, got.n_errors) == (wanted.n_requests, wanted.n_errors)
        found = got.duration
        assert same((found.p50, found.p95, found.p99), wanted.durations)
        assert found.n == wanted.n_answers
        assert same(got.ttft_p50, wanted.ttft_p50)
        assert same((got.hits.exact, got.hits.prefix), (wanted.exact, wanted.prefix))
        assert same(got.hits.slower, wanted.slower)
        assert (got.input_tokens, got.output_tokens) == (wanted.input_tokens, wanted.output_tokens)


@exactly
@given(looks(), st.sampled_from(WINDOWS))
def test_tiles_and_tools_are_those_of_the_lines(
    look: tuple[str, float, str], window: Window
) -> None:
    """What was refused and saved, and the calls of each tool with what became of them."""
    name, now_s, text = look
    for store, known in both(name, now_s):
        ended = known.ended(*bounds(known, window, now_s), FILTERS[text])
        listing = RequestQuery(store)
        listing.set(text)
        uses = window_uses(store, window, now_s, listing.mask)
        codes = [each.told("http.response.status_code") for each in ended]
        assert uses.n_refused == sum(code in (429, 503, 529) for code in codes)
        tokens, seconds = again.saved(ended, known.ended(-math.inf, now_s, lambda _: True))
        assert uses.saved.tokens == tokens
        assert same(uses.saved.seconds, seconds)
        wanted = again.calls(ended, known.results)
        found = window_tools(store, window, now_s, listing.mask)
        assert found.keys() == wanted.keys()
        for field in ("n", "n_unreadable", "n_repaired", "n_results", "n_failed"):
            counts = {tool: getattr(each, field) for tool, each in wanted.items()}
            assert {tool: getattr(each, field) for tool, each in found.items()} == counts
            assert getattr(uses.calls, field) == sum(counts.values())


@exactly
@given(st.sampled_from(NAMES), st.integers(0, 8), st.floats(0.5, 900))
def test_tokens_count_when_they_come(name: str, place: int, length_s: float) -> None:
    """By what requests tell while they run; what is left counts at their end."""
    now_s = moments(name)[place]
    for store, known in both(name, now_s):
        got = tokens_between(store, now_s - length_s, now_s)
        wanted = again.tokens_between(known, now_s - length_s, now_s)
        assert (got["output"], got["computed"]) == wanted


@exactly
@given(looks(), st.sampled_from(ORDERS))
def test_lists_are_those_of_the_lines(look: tuple[str, float, str], order: Any) -> None:
    """Requests in each order, their tool calls, and their errors by kind."""
    name, now_s, text = look
    for store, known in both(name, now_s):
        chosen = [each for each in known.requests if FILTERS[text](each)]
        listing = RequestQuery(store)
        listing.set(text)
        listing.order = order
        rows = listing.rows(now_s)
        got = [store.ids[int(row)] for row in rows]
        assert got == [each.id for each in ordered(chosen, order.column)]
        numbers = listing.calls(now_s)
        made = [store.tool_calls.numbered(int(number)) for number in numbers]
        calls = [
            (store.ids[call.row], call.call.name, call.call.arguments)
            for call in made
            if call is not None
        ]
        assert calls == all_calls(chosen)
        ended = rows[store.column("end_ts")[rows] <= now_s]
        groups = {each.kind: (each.n, each.last_ts) for each in error_groups(store, ended)}
        assert groups == failures(chosen)


def ordered(chosen: Sequence[Asked], column: str) -> list[Asked]:
    """By their start, or by a figure; unknown ones first."""
    by_start = sorted(chosen, key=lambda each: (each.start_ts, each.number))
    if not column:
        return by_start

    def value(each: Asked) -> float:
        found = each.told(ORDER_BY[column])
        return -1.0 if math.isnan(found) else float(np.float32(found))

    return sorted(by_start, key=value)


def all_calls(chosen: Sequence[Asked]) -> list[tuple[str, str, str]]:
    """Every call, the earliest first."""
    made = [(ts, each, call) for each in chosen for ts, call in each.calls]
    made.sort(key=lambda call: call[0])
    return [
        (each.id, call.get("gen_ai.tool.name", ""), call.get("gen_ai.tool.call.arguments", ""))
        for _, each, call in made
    ]


def failures(chosen: Sequence[Asked]) -> dict[str, tuple[int, float]]:
    """How often each kind of error happened, and when last."""
    found: dict[str, tuple[int, float]] = {}
    for each in chosen:
        if each.outcome == "error":
            kind = str(each.told("error.type", ""))
            n, last_ts = found.get(kind, (0, 0.0))
            found[kind] = (n + 1, max(last_ts, each.end_ts))
    return found


@exactly
@given(looks())
def test_sessions_and_agents_are_those_of_the_lines(look: tuple[str, float, str]) -> None:
    """Requests, errors, calls, tokens, hit rate and time of each session, and of its agents."""
    name, now_s, text = look
    for store, known in both(name, now_s):
        wanted: dict[str, list[Asked]] = {}
        for each in known.requests:
            if FILTERS[text](each):
                wanted.setdefault(each.session, []).append(each)
        listing = RequestQuery(store)
        listing.set(text)
        found = sessions(store, listing.rows(now_s), now_s)
        named = {store.strings[int(number)]: int(number) for number in found.numbers}
        assert named.keys() == wanted.keys()
        for session, own in wanted.items():
            compare(found.totals(named[session]), own)
            agents: dict[str, list[Asked]] = {}
            for each in own:
                agents.setdefault(each.start.get("gen_ai.agent.id", ""), []).append(each)
            tree = {each.id: each for each in found.agents(named[session])}
            assert tree.keys() == agents.keys()
            for agent, its_own in agents.items():
                compare(tree[agent].totals, its_own)


def compare(got: RequestTotals, own: Sequence[Asked]) -> None:
    """The totals of some requests."""
    total = again.totals(own)
    assert (got.n_requests, got.n_errors) == (len(own), total.n_errors)
    assert (got.input_tokens, got.output_tokens) == (total.input_tokens, total.output_tokens)
    assert got.n_tool_calls == sum(each.told("mlx.tool_calls", 0) for each in own)
    assert got.n_failed_results == sum(each.start.get("mlx.tool.failed_results", 0) for each in own)
    assert same((got.hits.exact, got.hits.prefix), (total.exact, total.prefix))
    assert same(got.busy_s, sum(each.told(DURATION, 0.0) for each in own))
    assert got.first_ts == min(each.start_ts for each in own)
    assert got.last_ts == max(
        each.over_ts if each.over_ts < math.inf else each.start_ts for each in own
    )


@settings(exactly, max_examples=40)
@given(looks(), st.sampled_from(WINDOWS), st.integers(1, 40), st.integers(1, 4))
def test_each_point_of_a_series_is_that_of_the_lines(
    look: tuple[str, float, str], window: Window, n_buckets: int, look_back: int
) -> None:
    """Counts of a bucket; percentiles and rates of it and those before it."""
    name, now_s, text = look
    for store, known in both(name, now_s):
        listing = RequestQuery(store)
        listing.set(text)
        got = TimeSeries(look_back).series(store, window, now_s, n_buckets, listing.view_at())
        for place in range(n_buckets):
            start_ts = got.start_ts + place * got.bucket_s
            # What ended at the edge of two buckets belongs to the later one.
            until_ts = min(np.nextafter(start_ts + got.bucket_s, -math.inf), now_s)
            own = known.ended(start_ts, until_ts, FILTERS[text])
            assert got.n[place] == len(own)
            assert got.errors[place] == sum(each.outcome == "error" for each in own)
            reach_s = got.bucket_s * look_back
            total = again.totals(
                known.ended(start_ts + got.bucket_s - reach_s, until_ts, FILTERS[text])
            )
            assert same(got.durations[:, place], total.durations)
            assert same(got.ttft[place], total.ttft_p50)
            assert same((got.exact[place], got.prefix[place]), (total.exact, total.prefix))
