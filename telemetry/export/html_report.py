"""A report as one page that fetches nothing: its own style, its own charts, no scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape

from mlxdeck.telemetry.analyze.comparison import Comparison
from mlxdeck.telemetry.analyze.comparison_text import VERDICTS, change_of, title_of, value_of
from mlxdeck.telemetry.analyze.finding import ReportFinding
from mlxdeck.telemetry.analyze.report import Group, Report
from mlxdeck.telemetry.analyze.report_series import ReportSeries
from mlxdeck.telemetry.analyze.report_text import TITLES, endless, ends_of, nothing
from mlxdeck.telemetry.analyze.sentences import counted, dated, percent, span
from mlxdeck.telemetry.analyze.token_costs import Saved
from mlxdeck.telemetry.export.html_charts import ChartAxis, ChartLine, bars, lines
from mlxdeck.telemetry.export.html_style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""A browser that reads it fetches nothing, whatever got into the page."""
MAX_ROWS = 15
Cells = Sequence[str]


def html_page(of: Report, steps: ReportSeries, against: Comparison | None = None) -> str:
    """The whole page."""
    title = f"mlxdeck report, {dated(of.period.from_ts)} to {dated(of.period.until_ts)}"
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main>{''.join(_body(of, steps, against))}"
        "</main></body></html>\n"
    )


def _body(of: Report, steps: ReportSeries, against: Comparison | None) -> Iterator[str]:
    yield "<h1>mlxdeck report</h1>"
    yield f'<p class="quiet">{dated(of.period.from_ts)} to {dated(of.period.until_ts)}</p>'
    if not of.n_requests:
        why = nothing(of.n_lost, of.n_open)
        yield f"<p>{escape(why[0].upper() + why[1:])}.</p>"
        if of.findings:
            yield from _findings(of.findings)
        return
    yield from _tiles(of)
    yield from _findings(of.findings)
    if against:
        yield from _comparison(against)
    yield "<h2>Over time</h2>"
    yield from _charts(steps)
    yield from _times(of)
    yield from _caches(of)
    for noun, found in (("model", of.models), ("session", of.sessions), ("agent", of.agents)):
        yield from _groups(noun, found)
    yield from _tools(of)


def _tiles(of: Report) -> Iterator[str]:
    ends = "; ".join([", ".join(ends_of(of)), *endless(of.n_lost, of.n_open, "more ")])
    saved = of.saved
    tiles = [
        ("requests", f"{of.n_requests:,}", ends),
        ("tokens read", f"{of.input_tokens:,}", f"{of.output_tokens:,} written"),
        ("clients waited", span(of.busy_s), f"P95 {span(of.times['duration'].p95)} a request"),
        ("from caches", percent(saved.tokens, saved.of_tokens), _of_answers(saved)),
    ]
    if saved.seconds > 0:
        tiles.append(("time saved", span(saved.seconds), "estimated"))
    if of.money:
        source = f"list price of {of.money.date}" if of.money.date else "at your prices"
        about = f"{of.money.prices.name}, {source}; ${of.money.uncached:,.2f} without a cache"
        tiles.append(("the same elsewhere", f"${of.money.cost:,.2f}", about))
    yield '<dl class="tiles">'
    for name, value, about in tiles:
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        yield f"<small>{escape(about)}</small></dd></div>"
    yield "</dl>"


def _of_answers(saved: Saved) -> str:
    return f"{saved.tokens:,} of {counted(saved.of_tokens, 'token')} of answered prompts"


def _findings(found: Sequence[ReportFinding]) -> Iterator[str]:
    yield "<h2>Findings</h2>"
    if not found:
        yield "<p>None: nothing here costs enough to be worth a change.</p>"
    for each in found:
        saves = (
            f'<p class="saves">saves about {escape(span(each.saves_s))}</p>' if each.saves_s else ""
        )
        yield f"<article><h3>{escape(each.title)}</h3>{saves}"
        yield f"<ul>{_items(each.evidence)}</ul><p>What helps:</p><ul>{_items(each.advice)}</ul>"
        if each.requests:
            yield f'<p class="quiet">for example {escape(", ".join(each.requests))}</p>'
        yield "</article>"


def _items(texts: Iterable[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _charts(steps: ReportSeries) -> Iterator[str]:
    moments = _moments(steps)

    def axis(title: str, of_time: bool = False) -> ChartAxis:
        return ChartAxis(title, span if of_time else lambda value: f"{value:,.0f}", moments)

    parts = [
        ChartLine("answered", "a", steps.answered),
        ChartLine("cancelled", "b", steps.cancelled),
        ChartLine("failed", "bad", steps.errors),
    ]
    yield bars(axis("requests"), parts)
    times = [ChartLine("P95", "b", steps.p95_s), ChartLine("P50", "a", steps.p50_s)]
    yield lines(axis("time of a request", of_time=True), times)
    tokens = [
        ChartLine("computed", "b", steps.computed_tokens),
        ChartLine("from caches", "a", steps.known_tokens),
    ]
    yield bars(axis("prompt tokens"), tokens)


def _moments(steps: ReportSeries) -> list[str]:
    form = "%H:%M:%S" if steps.step_s < 60 else "%H:%M" if steps.step_s < 3600 else "%m-%d %H:%M"
    return [
        datetime.fromtimestamp(steps.begin_ts + n * steps.step_s).astimezone().strftime(form)
        for n in range(len(steps.requests))
    ]


def _table(title: str, names: Cells, rows: Iterable[Cells], classes: Cells = ()) -> Iterator[str]:
    """Cells name their column too, for a narrow screen, where a row is a list."""
    yield f"<h2>{escape(title)}</h2>" if title else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    yield f"<table><thead><tr>{head}</tr></thead><tbody>"
    for number, row in enumerate(rows):
        mark = f' class="{classes[number]}"' if classes and classes[number] else ""
        cells = "".join(
            f'<td data-name="{escape(name)}">{escape(cell)}</td>'
            for name, cell in zip(names, row, strict=True)
        )
        yield f"<tr{mark}>{cells}</tr>"
    yield "</tbody></table>"


def _comparison(of: Comparison) -> Iterator[str]:
    rows = [
        (
            title_of(each),
            value_of(each, each.before),
            value_of(each, each.now),
            change_of(each, each.change),
            "–" if math.isnan(each.low) else " … ".join(
                change_of(each, value) for value in (each.low, each.high)
            ),
            VERDICTS[each.verdict],
        )
        for each in of.differences
    ]  # fmt: skip
    title = f"Against {dated(of.before.from_ts)} to {dated(of.before.until_ts)}"
    names = ("figure", "before", "now", "change", "interval", "verdict")
    classes = [
        each.verdict if each.verdict in ("worse", "better") else "" for each in of.differences
    ]
    yield from _table(title, names, rows, classes)
    yield (
        f'<p class="quiet">A difference counts if its interval ({of.level:.1%} each) excludes 0,'
        " and it is 5% and 10 ms or more.</p>"
    )


def _times(of: Report) -> Iterator[str]:
    rows = [
        (title, *(span(value) for value in (values.p50, values.p95, values.p99)), f"{values.n:,}")
        for name, title in TITLES.items()
        if (values := of.times[name]).n
    ]
    yield from _table("Time of answers", ("phase", "P50", "P95", "P99", "requests"), rows)


def _caches(of: Report) -> Iterator[str]:
    rows = [(name, f"{hits.n_requests:,}", f"{hits.n_tokens:,}") for name, hits in of.tiers.items()]
    if rows:
        yield from _table("From caches", ("tier", "requests", "tokens"), rows)
    if of.misses:
        yield from _table("Not known", ("reason", "requests"), _counts(of.misses))
    if of.errors:
        yield from _table("Errors", ("type", "requests"), _counts(of.errors))


def _counts(of: Mapping[str, int]) -> list[Cells]:
    return [(name, f"{n:,}") for name, n in of.items()]


def _groups(noun: str, found: Sequence[Group]) -> Iterator[str]:
    names = (noun, "requests", "failed", "read", "cached", "written", "P50", "P95")
    rows = [
        (
            each.name,
            f"{each.n_requests:,}",
            f"{each.n_errors:,}",
            f"{each.input_tokens:,}",
            percent(each.cached_tokens, each.judged_tokens),
            f"{each.output_tokens:,}",
            _known(each.duration_p50_s),
            _known(each.duration_p95_s),
        )
        for each in found[:MAX_ROWS]
    ]
    yield from _table(f"By {noun}", names, rows)
    if len(found) > MAX_ROWS:
        yield f'<p class="quiet">and {counted(len(found) - MAX_ROWS, noun)} more</p>'


def _known(seconds: float) -> str:
    return "–" if math.isnan(seconds) else span(seconds)


def _tools(of: Report) -> Iterator[str]:
    names = ("tool", "calls", "unreadable", "not valid", "repaired", "results", "failed", "P95")
    rows = [
        (
            name,
            *(f"{n:,}" for n in (uses.n, uses.n_unreadable, uses.n_invalid, uses.n_repaired)),
            *(f"{n:,}" for n in (uses.n_results, uses.n_failed)),
            _known(uses.p95_s),
        )
        for name, uses in list(of.tools.items())[:MAX_ROWS]
    ]
    if rows:
        yield from _table("By tool", names, rows)
