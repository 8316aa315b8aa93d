"""How things are: each trouble by its number, the one that matters most, as of any moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mlxdeck.telemetry.alerts.stream_alarm import StreamAlarm
from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.analyze.stats import WINDOWS, summary
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.playback_clock import PlaybackClock
from mlxdeck.telemetry.query.filters import parse
from mlxdeck.telemetry.read.tail import BadLine
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import SourceChanged
from mlxdeck.tui.present.blamed_misses import BlamedMisses
from mlxdeck.tui.present.verdict import HOLD_S, Judgement, Look, Verdict, verdicts
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.state.preferences import Preferences
from mlxdeck.tui.state.request_query import ORDERS, RequestQuery
from tests.streams import NAME, START_TS, Made, Stream
from tests.tui.running import running

GOOD = [Made(10 + n, 1.0, 1000, 900, cache="prefix") for n in range(20)]
BUSY = {"active": 16, "max_active": 16, "max_queued": 8}


def context(lines: Iterable[bytes], stream: Stream | None = None) -> Context:
    """A dashboard's state over some lines, of a server's stream or of none."""
    store = Store()
    found = batch(Path(NAME), b"".join([*([stream.header()] if stream else []), *lines]))
    assert found
    store.feed([found])
    alarm, query = StreamAlarm(Thresholds()), RequestQuery(store)
    return Context([], store, PlaybackClock(), query, alarm, Preferences(), WINDOWS[1])


def requests(stream: Stream, made: Sequence[Made], at: int = 0) -> list[bytes]:
    """All their lines."""
    return [line for n, each in enumerate(made) for line in stream.request(each, at + n)]


def told(ctx: Context, at_s: float) -> list[Verdict]:
    """All verdicts as of a moment."""
    now_s = START_TS + at_s
    total = summary(ctx.store, ctx.window, now_s)
    return list(verdicts(Look(ctx, now_s, total, None)))


def missed(stream: Stream, number: int, at_s: float, block: str, reason: str) -> list[bytes]:
    """A request that had to compute what the one before it had computed already."""
    name = f"req_m{number}"
    end = t.RequestEnd(
        *(),
        model="made-up", input_tokens=9000, cached_tokens=100, output_tokens=10, duration_s=9.0,
        ttft_s=8.0, prefill_s=8.0, decode_s=1.0, cache_result="prefix", cache_tier="ram",
        miss_reason=reason, diverged_block=block,
    )  # fmt: skip
    start = t.RequestStart(model="local", n_messages=1)
    return [
        stream.line(start, at_s - 9, name, "session0"),
        stream.line(end, at_s, name, "session0"),
    ]


def test_all_is_well() -> None:
    """With the share that came from caches; and before anything was asked."""
    stream = Stream()
    ctx = context([*requests(stream, GOOD), stream.tick(30)], stream)
    (only,) = told(ctx, 31)
    assert (only.mood, only.filter) == ("good", "")
    assert only.text == "healthy: 20 requests answered, 90% of their prompts from cache"
    (first,) = told(context(requests(stream, GOOD[:1]), stream), 31)
    assert first.text == "healthy: 1 request answered, 90% of its prompt from cache"
    (early,) = told(ctx, 5)
    assert (early.mood, early.text) == ("note", "nothing ended in the last 5m")
    (first,) = told(context(Stream().request(Made(10), 1), Stream()), 11)
    assert first.text == "healthy: 1 request answered, 0% of its prompt from cache"


def test_what_was_cut_off_is_not_answered() -> None:
    """It is counted beside what was; where nothing was, it isn't called healthy."""
    cut_off = Stream().request(Made(20, outcome="cancelled"), 2)
    (alone,) = told(context(cut_off, Stream()), 21)
    assert (alone.mood, alone.text) == ("note", "1 request cut off, none answered")
    (beside,) = told(context([*Stream().request(Made(10), 1), *cut_off], Stream()), 21)
    assert beside.text.startswith("healthy: 1 request answered, 1 cut off, 0% of their")


def test_each_trouble_is_told_with_its_number_and_its_requests() -> None:
    """In the order of what matters most; the filter finds as many as the sentence says."""
    stream = Stream()
    failed = [Made(40 + n, 1.0, outcome="error", cache="") for n in range(2)]
    lines = requests(stream, [*GOOD, *failed])
    for number, at_s in enumerate((50, 60, 70, 80)):
        lines += missed(stream, number, at_s, "tools.Read", "diverged")
    for number, fault in enumerate((False, False, False, True)):
        call = t.ToolCall(name="Read", parser="json_tags", parse_ok=fault, index=number)
        lines.append(stream.line(call, 80, "req_m3", "session0"))
    for number in range(6):
        start = t.RequestStart(model="local", n_messages=1)
        lines.append(stream.line(start, 84, f"req_w{number}", "session1"))
    lines.append(stream.tick(82, dropped_lines=0))
    figures = {"memory_active_bytes": 99 << 20, "memory_limit_bytes": 100 << 20, "dropped_lines": 7}
    lines.append(stream.tick(95, queued=5, **BUSY, **figures))
    ctx = context(lines, stream)
    found = {each.kind: each for each in told(ctx, 95)}
    assert list(found) == ["dropping", "queue", "memory", "tools", "misses", "errors"]
    texts = [each.text for each in found.values()]
    assert texts == [
        "telemetry is dropping lines: 7 could not be written",
        "queue 5 of 8, the oldest waits 11.0s",
        "memory is near its limit: 104MB of 105MB",
        "3 of 4 tool calls went wrong (3 can't be read or don't fit)",
        "4 of 4 cache misses begin in tools.Read: its description changes",
        "2 of 26 requests failed (api_error)",
    ]
    n_listed = {kind: len(each.rows) for kind, each in found.items() if each.rows is not None}
    assert n_listed == {"queue": 5, "memory": 6, "tools": 1, "misses": 4, "errors": 2}
    for each in found.values():
        assert (each.rows is None) is not bool(each.filter)
        if each.rows is not None:
            # The filter alone finds others of their kind too, whenever they were.
            assert parse(each.filter).mask(ctx.store)[each.rows].all()


@pytest.mark.parametrize(
    ("block", "reason", "text"),
    [
        ("system", "diverged", "begin in system: something in it changes"),
        ("messages.3", "diverged", "begin in messages.3: an earlier message is not as it was"),
        ("", "evicted", "they had to give way to others"),
        ("", "model_changed", "the model was changed"),
    ],
)
def test_who_is_to_blame_for_misses(block: str, reason: str, text: str) -> None:
    """A block of the prompt, or what happened to what was known; one or two are an accident."""
    stream = Stream()
    many = [line for n in range(5) for line in missed(stream, n, 50 + 10 * n, block, reason)]
    (first, *_) = told(context([*many, stream.tick(95)], stream), 95)
    assert first.kind == "misses" and first.text.endswith(text)
    assert first.text.startswith("4 of 4 cache misses")
    few = [line for n in range(2) for line in missed(stream, n, 50 + 10 * n, block, reason)]
    assert told(context([*few, stream.tick(95)], stream), 95)[0].mood == "good"


def test_a_server_that_ended_badly_comes_first() -> None:
    """As of the moment, and not before; an end in good order is no trouble."""
    stream = Stream()
    start = stream.line(t.RequestStart(model="local"), 35, "req_x", "session0")
    stop = stream.line(t.ServerStop(), 40)
    ctx = context([*requests(stream, GOOD), start, stop], stream)
    assert told(ctx, 39)[0].mood == "good"
    (first, *_) = told(ctx, 41)
    assert first.text == "the server ended in the middle of work: 1 request was lost"
    assert (first.mood, first.filter) == ("bad", "status:lost")
    tick = Stream(pid=9).tick(42)
    ctx = context([*requests(stream, GOOD), start, stop, tick], stream)
    (first, *_) = told(ctx, 43)
    assert (first.kind, first.mood) == ("restarted", "warn")
    ctx = context([*requests(stream, GOOD), stop], stream)
    (only,) = told(ctx, 41)
    assert only.text == "the server has stopped, and nothing was lost"


def test_an_end_that_cannot_be_read_is_not_called_lost() -> None:
    """The bad line is told, which may be it; one in front of the request's lines can't be."""
    stream = Stream()
    start = stream.line(t.RequestStart(model="local"), 35, "req_x", "session0")
    stop = stream.line(t.ServerStop(), 40)
    lines = [*requests(stream, GOOD), start, stop]
    ctx, size = context(lines, stream), len(b"".join(lines))
    ctx.source = SourceChanged([], 1, [BadLine(Path(NAME), size, "torn")])
    (only,) = told(ctx, 41)
    assert (only.kind, only.mood, only.filter) == ("unread", "warn", "status:lost")
    assert only.text == "1 request has no end that can be read: 1 bad line"
    assert len(only.rows if only.rows is not None else ()) == 1
    for bad in (BadLine(Path(NAME), 5, "torn"), BadLine(Path("other.jsonl"), size, "torn")):
        ctx.source = SourceChanged([], 1, [bad])
        assert [each.kind for each in told(ctx, 41)] == ["lost"]


def test_a_killed_server_has_no_queue_any_more() -> None:
    """Its last tick still tells of one; what it left behind is lost, and is listed."""
    stream = Stream()
    start = stream.line(t.RequestStart(model="local"), 35, "req_x", "session0")
    ctx = context([*requests(stream, GOOD), start, stream.tick(36, queued=7, **BUSY)], stream)
    assert told(ctx, 36)[0].kind == "queue"
    # It may only be slow.
    (silent,) = told(ctx, 60)
    assert silent.text == "no word from the server for 24.0s, with 1 request running"
    assert (silent.mood, silent.filter) == ("warn", "phase:running")
    ctx.store.lose_silent(START_TS + 200)
    ctx.clock.end_at(START_TS + 36)
    assert [(each.kind, each.filter) for each in told(ctx, 36)] == [("lost", "status:lost")]


def test_what_runs_before_anything_has_ended_is_listed() -> None:
    """The line says how many run, and leads to them."""
    stream = Stream()
    start = stream.line(t.RequestStart(model="local"), 35, "req_x", "session0")
    (only,) = told(context([start, stream.tick(36)], stream), 36)
    assert (only.text, only.filter) == ("1 request running", "phase:running")


def test_conversations_that_begin_differently_are_no_changed_history() -> None:
    """Another first message is mostly another conversation; a later one is an edited history."""
    texts = []
    for block in ("messages.0", "messages.4"):
        stream = Stream()
        lines = [each for n in range(5) for each in missed(stream, n, 20 + n, block, "diverged")]
        texts.append(told(context([*requests(stream, GOOD), *lines], stream), 31)[0])
    assert "another conversation" in texts[0].text and "system prompt" in texts[0].advice
    assert "not as it was" in texts[1].text and "append" in texts[1].advice


def test_a_server_is_missed_only_where_there_was_one() -> None:
    """What Claude Code wrote down itself is of no server; a stream that is silent had one."""
    stream = Stream()
    for of, kinds in ((stream, ["bad"]), (None, ["good"])):
        ctx = context(requests(stream, GOOD), of)
        ctx.clock.end_at(START_TS + 30)
        assert [each.mood for each in told(ctx, 31)] == kinds


def test_refused_requests_are_no_failures() -> None:
    """They are told as what they are; from a fifth on, failures come before all else."""
    stream = Stream()
    full = t.RequestEnd(outcome="error", status=529, error_type="overloaded_error")
    lines = requests(stream, GOOD)
    for number in range(6):
        lines.append(stream.line(t.RequestStart(), 40, f"req_f{number}"))
        lines.append(stream.line(full, 41, f"req_f{number}"))
    (first, *_) = told(context(lines, stream), 45)
    assert first.text == "6 of 26 requests refused: there was no room"
    failed = [Made(44, 0.5, outcome="error", cache="") for _ in range(8)]
    lines += requests(stream, failed, 100)
    (first, *_) = told(context(lines, stream), 45)
    assert (first.kind, first.text) == ("failing", "8 of 34 requests failed (api_error)")


def test_the_list_is_of_the_requests_that_are_counted() -> None:
    """Of the window and the moment, in any order, also for tiles; another filter ends it."""
    stream = Stream()
    failed = [Made(10.0 * n, 1.0, outcome="error", cache="") for n in range(1, 9)]
    ctx = context(requests(stream, failed), stream)
    query = ctx.listing
    for label, at_s, n in (("1m", 85, 6), ("1m", 45, 4), ("all", 85, 8)):
        ctx.window = next(each for each in WINDOWS if each.label == label)
        (verdict, *_) = told(ctx, at_s)
        assert verdict.text == f"{n} of {n} requests failed (api_error)"
        query.set(verdict.filter)
        query.choose(verdict.rows)
        for order in ORDERS:
            query.order = order
            assert len(query.rows(START_TS + at_s)) == n
        assert query.mask is not None and query.mask.sum() == n
        assert summary(ctx.store, WINDOWS[-1], START_TS + 90, query.view_at().mask).n_requests == n
    key = query.version
    query.choose(verdict.rows[1:] if verdict.rows is not None else None)
    assert query.version != key
    query.set("status:error code!=429")
    assert len(query.rows()) == 8 and not query.is_chosen


def test_misses_are_judged_only_when_other_requests_ended() -> None:
    """Not at each look, as time passes."""
    stream = Stream()
    lines = [line for n in range(5) for line in missed(stream, n, 50 + n, "system", "diverged")]
    ctx, shown = context(lines, stream), BlamedMisses()
    for at_s, n_computed in ((60, 1), (61, 1), (90, 1), (350.5, 2), (351.5, 3), (351.9, 3)):
        now_s = START_TS + at_s
        look = Look(ctx, now_s, summary(ctx.store, ctx.window, now_s), misses=shown)
        list(verdicts(look))
        assert shown.n_computed == n_computed, at_s


def test_what_is_shown_does_not_flicker() -> None:
    """More weight at once, less after a while; a jump, or another window, holds nothing."""
    stream = Stream()
    lines = requests(stream, GOOD)
    lines += [stream.tick(30.0), stream.tick(40.0, queued=4, **BUSY), stream.tick(41.0)]
    ctx, shown = context(lines, stream), Judgement()

    def kind(at_s: float) -> str:
        total = summary(ctx.store, ctx.window, START_TS + at_s)
        return shown.at(ctx, START_TS + at_s, total).kind

    assert [kind(at_s) for at_s in (39, 40, 41, 41 + HOLD_S - 1.5)] == ["calm", *["queue"] * 3]
    assert kind(40.5 + HOLD_S) == "calm"
    assert [kind(at_s) for at_s in (40, 12)] == ["queue", "calm"]
    assert kind(40) == "queue"
    ctx.window = replace(ctx.window, label="x")
    assert kind(42) == "calm"


async def test_a_recording_with_a_damaged_end_tells_of_the_bad_line(tmp_path: Path) -> None:
    """And not that the server ended in the middle of work."""
    stream = Stream(pid=9)
    *lines, end = stream.request(Made(96, 1.0), 7)
    extra = [*lines, end.replace(b'"attrs":', b'"attrs'), stream.line(t.ServerStop(), 97)]
    async with running(tmp_path, extra=extra) as run:
        await run.until(lambda: "1 request has no end that can be read: 1 bad line" in run.text)
        assert "middle of work" not in run.text


async def test_the_requests_behind_it_are_one_key_away(tmp_path: Path) -> None:
    """`v`, or Enter on the line, lists them, and again lists all; it is of all requests."""
    async with running(tmp_path) as run:
        assert "▲ 1 of 6 requests failed (api_error)" in run.text.splitlines()[1]
        await run.press("v")
        assert run.table.n_items == 1
        assert "behind the line at the top" in run.text
        assert "1 of 6 requests failed" in run.text.splitlines()[1]
        run.app.screen.query_one("#verdict").focus()
        await run.press("enter")
        assert run.table.n_items == 6


async def test_the_list_follows_the_line_while_it_is_open(tmp_path: Path) -> None:
    """Requests that fail are added, and those that leave the window are not listed."""
    old = [Made(1.0 + n, 0.5, outcome="error", cache="") for n in range(3)]
    async with running(tmp_path, [*old, *GOOD], now_s=70) as run:
        await run.press("w", "w", "w", "w")
        assert run.app.context.window.label == "1m"
        await run.add_request(Made(60, 1.0, outcome="error", cache=""))
        assert "1 of 21 requests failed" in run.text
        await run.press("v")
        assert run.table.n_items == 1
        await run.add_request(Made(65, 1.0, outcome="error", cache=""))
        assert "2 of 22 requests failed" in run.text
        assert run.table.n_items == 2 and run.figure("errors").startswith("2")
        await run.press("v")
        assert run.table.n_items == 25


async def test_a_line_that_leads_to_none_any_more_leaves_the_list_as_it_was(tmp_path: Path) -> None:
    """Those stay that it was about last, until the same key lists all again."""
    stream = Stream()
    start = stream.line(t.RequestStart(model="local"), 95, "req_x", "session0")
    async with running(tmp_path, [], extra=[start, stream.tick(99)]) as run:
        assert "1 request running" in run.text
        await run.press("v")
        assert run.table.n_items == 1
        await run.add_request(Made(96, 1.0))
        assert "1 request answered" in run.text and "v: all of them again" in run.text
        assert run.table.n_items == 1
        await run.press("v")
        assert run.table.n_items == 2 and not run.app.context.listing.is_chosen
