"""How things are, in one sentence: all is well, or the one thing that matters most. Pure.

It is of all requests, whatever the list is filtered by, so that the trouble which a filter lists
stays in sight. Only the newest requests of a window are searched, so that each look costs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from mlxdeck.telemetry.analyze.request_spans import still_running
from mlxdeck.telemetry.analyze.running_servers import all_stopped, latest_tick
from mlxdeck.telemetry.analyze.sentences import listed
from mlxdeck.telemetry.analyze.stats import Array, Summary, bounds
from mlxdeck.telemetry.analyze.usage import calls_of
from mlxdeck.telemetry.analyze.window_uses import REFUSED
from mlxdeck.telemetry.columns.record_batch import INVALID, UNREAD, UNREADABLE
from mlxdeck.telemetry.query.fields import called_by
from mlxdeck.telemetry.schema.events import Tick
from mlxdeck.telemetry.schema.figures import ERROR
from mlxdeck.tui.present.blamed_misses import REASONS, BlamedMisses
from mlxdeck.tui.present.lost_requests import lost_requests
from mlxdeck.tui.present.why_silent import why_silent
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt

Mood = Literal["good", "note", "warn", "bad"]

MAX_ROWS = 5_000
"""Requests of a window that are searched, the newest."""
MIN_REQUESTS = 3
"""What happened once or twice may be an accident."""
MAX_NAMED = 8
MIN_SHARE = 0.05
"""Of requests or calls: fewer fail on any good day."""
FAILING_SHARE = 0.2
"""From so many failures on, nothing else matters more."""
NEAR_LIMIT = 0.95
WAITS_S = 2.0
"""A shorter wait is none."""
HOLD_S = 3.0
"""A trouble that is over stays for so long, so that two of a size don't take turns."""
MAX_STEP_S = 30.0
"""A larger step of time is a jump: nothing is held over it."""
STICKS = 0.8
"""Another block is to blame only if this share of what it costs is more than the one before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence about all that is recorded."""

    kind: str
    """Two of one kind are the same trouble with other figures."""
    text: str
    advice: str = ""
    """What helps, or what `Enter` shows."""
    filter: str = ""
    """Finds the requests behind it, and others of their kind; empty if there are none."""
    mood: Mood = "warn"
    rows: Array | None = field(default=None, compare=False)
    """Those that it counts."""


class Look:
    """What is recorded, as of a moment; parts are computed once they are needed."""

    def __init__(
        self,
        ctx: Context,
        now_s: float,
        total: Summary,
        before: Verdict | None = None,
        misses: BlamedMisses | None = None,
    ) -> None:
        """`total` is of the whole window; `before` is what was shown last."""
        self.ctx = ctx
        self.store = ctx.store
        self.now_s = now_s
        self.total = total
        self.before = before
        self.misses = misses or BlamedMisses()
        self.bounds = bounds(ctx.store, ctx.window, now_s)

    @cached_property
    def rows(self) -> Array:
        """The newest requests that ended in the window."""
        return self.store.by_end.between(*self.bounds)[-MAX_ROWS:]

    @cached_property
    def begun(self) -> Array:
        """The newest requests that had begun by now."""
        return self.store.by_start.between(-np.inf, self.now_s)[-MAX_ROWS:]

    @cached_property
    def open_rows(self) -> Array:
        """Those that run now, the oldest first."""
        return still_running(self.store, self.begun, self.now_s)

    @cached_property
    def tick(self) -> Tick | None:
        """What the servers say of themselves now; None of servers that are gone."""
        if self.ctx.clock.shows_end:
            return None
        return latest_tick(self.store, self.now_s)

    @cached_property
    def errors(self) -> tuple[Array, Array]:
        """Requests that failed, and those that were refused for want of room."""
        failed = self.rows[self.store.column("outcome")[self.rows] == ERROR]
        refused = np.isin(self.store.column("status")[failed], REFUSED)
        return failed[~refused], failed[refused]

    @cached_property
    def gone(self) -> tuple[Array, Array]:
        """Requests of the window that were lost, and those of which it isn't known."""
        return lost_requests(self.store, self.begun, self.bounds, self.ctx.source.bad)

    def n(self, count: int, what: str) -> str:
        """`3 of 40 requests`, of those that are searched."""
        return f"{count:,} of {fmt.counted(len(self.rows), what)}"


def lost(look: Look) -> Iterator[Verdict]:
    """Servers that don't answer, or ended in the middle of requests."""
    for mirror in look.ctx.beside.mirrors:
        if mirror.trouble:
            text = f"{mirror.trouble}, since {fmt.clock(mirror.trouble_ts)}"
            told = "it is asked again and again; what was copied stays"
            yield Verdict("gone", text, told, mood="bad")
    store, loss = look.store, _loss(look)
    if loss and look.tick is None:
        yield loss
    elif quiet := why_silent(look.ctx, look.now_s):
        yield Verdict("silent", quiet.text, quiet.advice, mood="bad" if quiet.is_bad else "note")
    elif look.tick is None and len(look.open_rows) and (ticks := store.ticks.until(look.now_s)):
        silent_s = look.now_s - store.ticks[ticks - 1].ts
        running = fmt.counted(len(look.open_rows), "request")
        text = f"no word from the server for {fmt.duration(silent_s)}, with {running} running"
        advice = "mlxdeck doctor looks for it"
        yield Verdict("silent", text, advice, "phase:running", rows=look.open_rows)


def restarted(look: Look) -> Iterator[Verdict]:
    """What was lost before a server came that runs now."""
    loss = _loss(look)
    if loss and look.tick is not None:
        yield replace(loss, kind="restarted", mood="warn")


def _loss(look: Look) -> Verdict | None:
    gone, _ = look.gone
    if not (n_lost := len(gone)):
        return None
    what = "1 request was lost" if n_lost == 1 else f"{n_lost:,} requests were lost"
    text = f"the server ended in the middle of work: {what}"
    return Verdict("lost", text, "its log says why", "status:lost", "bad", gone)


def unread(look: Look) -> Iterator[Verdict]:
    """Requests whose ends may be in lines that can't be read."""
    _, rows = look.gone
    if n := len(rows):
        have = "has" if n == 1 else "have"
        lines = fmt.counted(look.ctx.source.n_bad, "bad line")
        text = f"{fmt.counted(n, 'request')} {have} no end that can be read: {lines}"
        yield Verdict("unread", text, "x shows what could not be read", "status:lost", rows=rows)


def failing(look: Look) -> Iterator[Verdict]:
    """So many errors that little else matters."""
    failed, _ = look.errors
    if len(failed) >= max(MIN_REQUESTS, FAILING_SHARE * len(look.rows)):
        yield _errors(look, failed, "failing")


def dropping(look: Look) -> Iterator[Verdict]:
    """Lines that could not be written in the window."""
    if not look.store.dropped.until(look.now_s):
        return
    ticks = look.store.ticks
    first, last = ticks.until(look.bounds[0]), ticks.until(look.now_s)
    counts: dict[int, list[int]] = {}
    for row in ticks[max(0, first - 1, last - MAX_ROWS) : last]:
        counts.setdefault(row.pid, []).append(row.tick.dropped_lines)
    n_dropped = sum(each[-1] - each[0] for each in counts.values())
    if n_dropped > 0:
        text = f"telemetry is dropping lines: {n_dropped:,} could not be written"
        yield Verdict("dropping", text, "is the disk full? mlxdeck doctor looks", mood="bad")


def queue(look: Look) -> Iterator[Verdict]:
    """Requests that wait for others."""
    tick = look.tick
    if tick is None or not tick.queued:
        return
    # The first to come is the first to run, as a rule.
    waiting = look.open_rows[-tick.queued :]
    starts = look.store.column("start_ts")[waiting]
    oldest_s = look.now_s - float(starts.min()) if len(starts) else 0.0
    most = tick.max_queued
    if oldest_s < WAITS_S and not (most and tick.queued >= most / 2):
        return
    size = f"{tick.queued:,}" + (f" of {most:,}" if most is not None else "")
    text = f"queue {size}, the oldest waits {fmt.duration(oldest_s)}"
    is_full = most is not None and tick.queued >= NEAR_LIMIT * most
    advice = "the next ones are refused" if is_full else ""
    yield Verdict("queue", text, advice, "status:open", "bad" if is_full else "warn", waiting)


def memory(look: Look) -> Iterator[Verdict]:
    """A model and its states that leave little room."""
    tick = look.tick
    if tick is None or not tick.memory_limit_bytes:
        return
    if tick.memory_active_bytes >= NEAR_LIMIT * tick.memory_limit_bytes:
        used, limit = map(fmt.size, (tick.memory_active_bytes, tick.memory_limit_bytes))
        text = f"memory is near its limit: {used} of {limit}"
        advice = "a smaller --prefix-cache-bytes or --max-batch leaves more room"
        running = "status:open" if len(look.open_rows) else ""
        yield Verdict("memory", text, advice, running, "bad", look.open_rows)


def tools(look: Look) -> Iterator[Verdict]:
    """Calls that could not be read, or whose tool failed."""
    store = look.store
    if not len(store.calls):
        return
    own = np.flatnonzero(calls_of(store, look.rows))
    unread = store.calls.faults[own] & (UNREAD | INVALID) > 0
    failed = store.calls.failed[own] & (store.calls.result_ts[own] <= look.now_s)
    bad = own[unread | failed]
    if len(bad) < max(MIN_REQUESTS, MIN_SHARE * len(own)):
        return
    names, counts = np.unique(store.calls.names[bad], return_counts=True)
    first = [store.strings[int(names[place])] for place in np.argsort(-counts, kind="stable")]
    kinds = ("can't be read or don't fit", int(unread.sum())), ("failed", int(failed.sum()))
    parts = ", ".join(f"{n:,} {what}" for what, n in kinds if n)
    text = f"{len(bad):,} of {fmt.counted(len(own), 'tool call')} went wrong ({parts})"
    called = {
        store.strings[number] for number in np.unique(store.calls.names[own[unread]]).tolist()
    }
    wanted = ["failed>0"] if failed.any() else []
    for name in sorted(called)[:MAX_NAMED]:
        wanted.append(called_by("" if name == UNREADABLE else name))
    most = "most: " if len(first) > 1 else ""
    advice, callers = f"{most}{listed(first, 1)}", np.unique(store.calls.rows[bad])
    yield Verdict("tools", text, advice, " or ".join(wanted), rows=callers)


def misses(look: Look) -> Iterator[Verdict]:
    """Prompts that had to be computed again, and what they have in common."""
    if len(look.rows) < MIN_REQUESTS:
        return
    found = look.misses.of(look.store, look.rows)
    if not found:
        return
    worst = max(found, key=lambda each: each.saves_s)
    kept = [each for each in found if look.before and look.before.filter == each.filter]
    if kept and kept[0].saves_s >= STICKS * worst.saves_s:
        worst = kept[0]
    of = f"{len(worst.rows):,} of {worst.n_missed:,} cache misses"
    if worst.subject in REASONS:
        what, advice = REASONS[worst.subject]
        text = f"{of}: {what}"
    else:
        text, advice = f"{of} begin in {_changes(worst.subject)}", _advice(worst.subject)
    yield Verdict("misses", text, advice, worst.filter, rows=worst.rows)


def _changes(block: str) -> str:
    kind, _, name = block.partition(".")
    if kind == "tools" and name:
        return f"{block}: its description changes"
    if block == "messages.0":
        return f"{block}: another conversation, or another beginning"
    if kind == "messages":
        return f"{block}: an earlier message is not as it was"
    return f"{block}: something in it changes"


def _advice(block: str) -> str:
    if block.startswith("tools"):
        return "keep tools and their order the same"
    if block == "messages.0":
        return "put what conversations share into the system prompt"
    if block.startswith("messages"):
        return "let the client only append"
    return "put what varies last, or leave it out"


def errors(look: Look) -> Iterator[Verdict]:
    """Requests that failed."""
    failed, _ = look.errors
    if len(failed):
        yield _errors(look, failed, "errors")


def _errors(look: Look, failed: Array, kind: str) -> Verdict:
    numbers, counts = np.unique(look.store.column("error_type")[failed], return_counts=True)
    first = look.store.strings[int(numbers[counts.argmax()])] or "error"
    what = first if len(numbers) == 1 else f"most: {first}"
    text = f"{look.n(len(failed), 'request')} failed ({what})"
    codes = "".join(f" code!={code}" for code in REFUSED)
    is_bad = kind == "failing"
    return Verdict(kind, text, "", f"status:error{codes}", "bad" if is_bad else "warn", failed)


def refused(look: Look) -> Iterator[Verdict]:
    """Requests for which there was no room."""
    _, turned_away = look.errors
    if len(turned_away):
        text = f"{look.n(len(turned_away), 'request')} refused: there was no room"
        wanted = " or ".join(f"code={code}" for code in REFUSED)
        advice = "raise --max-waiting, or ask less at once"
        yield Verdict("refused", text, advice, wanted, rows=turned_away)


JUDGES = (lost, failing, dropping, unread, queue, memory, tools, misses, restarted, errors, refused)
"""In the order of what matters most."""
_RANKS = ("gone", "lost", "silent", "failing", *(each.__name__ for each in JUDGES[2:]), "calm")


def calm(look: Look) -> Verdict:
    """What is said when nothing is wrong."""
    tick, total, store = look.tick, look.total, look.store
    if tick is not None and tick.loading_models:
        return Verdict("calm", f"loading {fmt.one_line(tick.loading_models[0], 40)}", mood="note")
    if all_stopped(store, look.now_s):
        return Verdict("calm", "the server has stopped, and nothing was lost", mood="note")
    if not total.n_requests:
        span = look.ctx.window.label
        idle = "nothing was asked yet" if span == "all" else f"nothing ended in the last {span}"
        running = len(look.open_rows)
        text = f"{fmt.counted(running, 'request')} running" if running else idle
        wanted = "phase:running" if running else ""
        return Verdict("calm", text, filter=wanted, mood="note", rows=look.open_rows)
    # Of those that failed there is another verdict.
    n_answered, n_cut_off = total.duration.n, total.n_requests - total.duration.n
    if not n_answered:
        text = f"{fmt.counted(n_cut_off, 'request')} cut off, none answered"
        return Verdict("calm", text, mood="note")
    parts = [f"{fmt.counted(n_answered, 'request')} answered"]
    if n_cut_off:
        parts.append(f"{n_cut_off:,} cut off")
    if not np.isnan(total.hits.total):
        whose = "its prompt" if total.n_requests == 1 else "their prompts"
        parts.append(f"{fmt.percent(total.hits.total)} of {whose} from cache")
    return Verdict("calm", f"healthy: {', '.join(parts)}", mood="good")


def verdicts(look: Look) -> Iterator[Verdict]:
    """All that is wrong, the most important first; if nothing is, that."""
    none = True
    for judge in JUDGES:
        for each in judge(look):
            none = False
            yield each
    if none:
        yield calm(look)


class Judgement:
    """What is shown, as time passes: something of more weight at once, of less after a while."""

    def __init__(self) -> None:
        self._shown: Verdict | None = None
        self._look: Look | None = None
        self._misses = BlamedMisses()
        self._scope: object = None
        self._looked_s = self._true_s = 0.0

    def at(self, ctx: Context, now_s: float, total: Summary) -> Verdict:
        """The verdict of a moment; `total` is of all requests of the window."""
        step_s = now_s - self._looked_s
        if self._scope != ctx.window or not 0 <= step_s <= MAX_STEP_S:
            self._shown = None
        self._look = Look(ctx, now_s, total, self._shown, self._misses)
        best = next(verdicts(self._look))
        shown = self._shown
        is_over = shown is None or now_s - self._true_s >= HOLD_S
        if shown is None or is_over or _RANKS.index(best.kind) <= _RANKS.index(shown.kind):
            shown, self._true_s = best, now_s
        self._shown, self._scope, self._looked_s = shown, ctx.window, now_s
        return shown

    def of_kind(self, kind: str) -> Verdict | None:
        """The verdict of a kind, at the same moment, though another one may matter more.

        None if nothing is told of it, or if it leads to no requests.
        """
        found = self._shown
        if found is not None and self._look is not None and found.kind != kind:
            found = next((each for each in verdicts(self._look) if each.kind == kind), None)
        return found if found is not None and found.filter else None
