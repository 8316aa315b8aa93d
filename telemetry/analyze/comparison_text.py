"""A comparison of two periods as lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mlxdeck.telemetry.analyze.comparison import Comparison, Difference
from mlxdeck.telemetry.analyze.report_text import TITLES
from mlxdeck.telemetry.analyze.sentences import dated, span

RATES = {"hit_rate": "tokens from caches", "error_rate": "requests that failed"}
VERDICTS = {
    "worse": "worse",
    "better": "better",
    "same": "no difference shown",
    "unknown": "too few requests",
}


def comparison_lines(of: Comparison) -> Iterator[str]:
    """One line a figure, with the interval of its change."""
    yield ""
    yield f"against {dated(of.before.from_ts)} to {dated(of.before.until_ts)}"
    yield f"{'':<26}{'before':>10}{'now':>10}{'change':>11}   interval"
    for each in of.differences:
        low, high = (change_of(each, value) for value in (each.low, each.high))
        interval = f"{low} … {high}" if not math.isnan(each.low) else "–"
        yield (
            f"  {title_of(each):<24}{value_of(each, each.before):>10}"
            f"{value_of(each, each.now):>10}{change_of(each, each.change):>11}"
            f"   {interval:<24}{VERDICTS[each.verdict]}"
        )
    yield (
        f"a difference counts if its interval ({of.level:.1%} each) excludes 0,"
        " and it is 5% and 10 ms or more"
    )


def title_of(each: Difference) -> str:
    """The name of a figure for a person."""
    return RATES.get(each.name) or f"{TITLES[each.name]} P{each.rank}"


def value_of(each: Difference, value: float) -> str:
    """A time or a share."""
    if math.isnan(value):
        return "–"
    return f"{value:.1%}" if each.name in RATES else span(value)


def change_of(each: Difference, value: float) -> str:
    """The same with its sign; of shares in points."""
    if math.isnan(value):
        return "–"
    if each.name in RATES:
        return f"{100 * value:+.1f} pt"
    return f"{'-' if value < 0 else '+'}{span(abs(value))}"
