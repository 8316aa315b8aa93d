"""A report as lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlxdeck.telemetry.analyze.finding import ReportFinding
from mlxdeck.telemetry.analyze.report import Group, Report, ReportFigures
from mlxdeck.telemetry.analyze.sentences import counted, dated, percent, span
from mlxdeck.telemetry.control_characters import shown

MAX_ROWS = 10
TITLES = {
    "duration": "whole request",
    "ttft": "first token",
    "queue": "queue",
    "prefill": "prefill",
    "decode": "decode",
}


def report_lines(of: Report) -> list[str]:
    """The whole report; one line if there was no request."""
    if not of.n_requests:
        findings = _findings(of.findings) if of.findings else ()
        return [shown(line) for line in (nothing(of.n_lost, of.n_open), *findings)]
    lines = [
        *_summary(of),
        *_findings(of.findings),
        *_times(of),
        *_caches(of),
        *_groups("model", of.models),
        *_groups("session", of.sessions),
        *_groups("agent", of.agents),
        *_tools(of),
    ]
    return [shown(line) for line in lines]


def figure_lines(of: ReportFigures) -> list[str]:
    """The totals alone; one line if there was no request."""
    if not of.n_requests:
        return [nothing(of.n_lost, of.n_open)]
    return [shown(line) for line in (*_summary(of), *_times(of), *_caches(of))]


def _summary(of: ReportFigures) -> Iterator[str]:
    yield f"{dated(of.period.from_ts)} to {dated(of.period.until_ts)}"
    ends = f": {', '.join(ends_of(of))}" if of.n_ok < of.n_requests else ""
    more = "".join(f"; {each}" for each in endless(of.n_lost, of.n_open, "more "))
    yield f"{counted(of.n_requests, 'request')}{ends}{more}"
    yield (
        f"{counted(of.input_tokens, 'token')} read, {of.output_tokens:,} written;"
        f" clients waited {span(of.busy_s)} in all"
    )
    saved = of.saved
    if saved.tokens:
        time = f", about {span(saved.seconds)}" if saved.seconds > 0 else ""
        yield (
            f"saved by caches: {counted(saved.tokens, 'token')}"
            f" ({percent(saved.tokens, saved.of_tokens)} of the prompts that were answered){time}"
        )
    if of.money:
        yield from _money(of)
    if of.errors:
        yield "errors: " + ", ".join(f"{kind} {n:,}" for kind, n in of.errors.items())


def _money(of: ReportFigures) -> Iterator[str]:
    assert of.money
    prices = of.money.prices
    source = f"list prices of {of.money.date}" if of.money.date else "your prices"
    yield (
        f"the same tokens at {prices.name} ({source}): ${of.money.cost:,.2f};"
        f" ${of.money.uncached:,.2f} without a cache"
    )


def _findings(found: Sequence[ReportFinding]) -> Iterator[str]:
    yield ""
    if not found:
        yield "findings: none"
        return
    yield f"findings: {len(found)}"
    for number, each in enumerate(found, 1):
        saves = f"  (saves about {span(each.saves_s)})" if each.saves_s else ""
        yield f"{number:>3}. {each.title}{saves}"
        yield from (f"       {line}" for line in each.evidence)
        yield from (f"     → {line}" for line in each.advice)
        if each.requests:
            yield f"     requests: {', '.join(each.requests)}"


def _times(of: ReportFigures) -> Iterator[str]:
    yield ""
    yield f"{'time of answers':<18}{'P50':>12}{'P95':>12}{'P99':>12}"
    for name, title in TITLES.items():
        values = of.times[name]
        if values.n:
            cells = (values.p50, values.p95, values.p99)
            yield f"  {title:<16}" + "".join(f"{span(value):>12}" for value in cells)


def _caches(of: ReportFigures) -> Iterator[str]:
    if not of.tiers and not of.misses:
        return
    yield ""
    yield f"{'from caches':<24}{'requests':>10}{'tokens':>15}"
    for name, hits in of.tiers.items():
        yield f"  {name:<22}{hits.n_requests:>10,}{hits.n_tokens:>15,}"
    if of.misses:
        yield "  not known: " + ", ".join(f"{reason} {n:,}" for reason, n in of.misses.items())


def _groups(noun: str, found: Sequence[Group]) -> Iterator[str]:
    if len(found) < 2 and noun != "model":
        return
    yield ""
    yield (
        f"{f'by {noun}':<40}{'requests':>9}{'failed':>8}{'read':>13}{'cached':>8}{'written':>10}"
        f"{'P50':>12}{'P95':>12}"
    )
    for each in found[:MAX_ROWS]:
        name = each.name if len(each.name) <= 37 else f"{each.name[:36]}…"
        yield (
            f"  {name:<38}{each.n_requests:>9,}{each.n_errors:>8,}{each.input_tokens:>13,}"
            f"{percent(each.cached_tokens, each.judged_tokens):>8}{each.output_tokens:>10,}"
            f"{_span(each.duration_p50_s):>12}{_span(each.duration_p95_s):>12}"
        )
    if len(found) > MAX_ROWS:
        yield f"  and {len(found) - MAX_ROWS:,} more; --json lists all"


def _span(seconds: float) -> str:
    return span(seconds) if seconds == seconds else "–"


def _tools(of: Report) -> Iterator[str]:
    if not of.tools:
        return
    yield ""
    yield (
        f"{'by tool':<40}{'calls':>9}{'unreadable':>12}{'not valid':>11}{'repaired':>10}"
        f"{'results':>9}{'failed':>8}{'P95':>10}"
    )
    for name, uses in list(of.tools.items())[:MAX_ROWS]:
        yield (
            f"  {name:<38}{uses.n:>9,}{uses.n_unreadable:>12,}{uses.n_invalid:>11,}"
            f"{uses.n_repaired:>10,}{uses.n_results:>9,}{uses.n_failed:>8,}{_span(uses.p95_s):>10}"
        )
    if len(of.tools) > MAX_ROWS:
        yield f"  and {len(of.tools) - MAX_ROWS:,} more; --json lists all"


def ends_of(of: ReportFigures) -> list[str]:
    """How its requests ended: these add up to their number."""
    ends = {"answered": of.n_ok, "failed": of.n_errors, "cancelled": of.n_cancelled}
    return [f"{n:,} {how}" for how, n in ends.items() if n]


def endless(n_lost: int, n_open: int, more: str = "") -> list[str]:
    """What there is beside requests that ended; with `more`, said so."""
    lost = [f"{n_lost:,} {more}lost with their server"] * bool(n_lost)
    return lost + [f"{n_open:,} {more}still running"] * bool(n_open)


def nothing(n_lost: int, n_open: int) -> str:
    """Why there are no figures: no request has ended."""
    if not n_lost and not n_open:
        return "no requests in this period"
    return f"no request ended in this period; {', '.join(endless(n_lost, n_open))}"
