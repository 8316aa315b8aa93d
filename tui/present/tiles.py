"""The values of the tiles, from a store: pure, and tested without Textual."""

from __future__ import annotations

from collections.abc import Iterable

from mlxdeck.telemetry.analyze.running_servers import summed_ticks
from mlxdeck.telemetry.analyze.stats import Summary
from mlxdeck.telemetry.analyze.time_series import Series
from mlxdeck.telemetry.analyze.usage import CallTotals
from mlxdeck.telemetry.analyze.window_uses import WindowUses
from mlxdeck.telemetry.schema.events import Tick
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.tiles import KpiValue, Mood

NEAR_LIMIT = 0.9
"""From this share of a limit on, a figure is marked."""


def tile_values(
    store: Store,
    summary: Summary,
    uses: WindowUses,
    series: Series,
    now_s: float,
    flow: float,
    window_label: str,
    *,
    gone: bool = False,
) -> dict[str, KpiValue]:
    """Every tile, by its name in `GROUPS`; `flow` is of tokens written a second.

    With `gone`, no server is left that something could be told of.
    """
    duration, hits, calls = summary.duration, summary.hits, uses.calls
    return {
        "requests": KpiValue(
            fmt.count(summary.n_requests),
            _trend(series.n),
            note="since start" if window_label == "all" else f"in {window_label}",
        ),
        "errors": _fault(summary.n_errors),
        "refused": _fault(uses.n_refused),
        "P50": KpiValue(fmt.duration(duration.p50), _trend(series.durations[0]), note="P50"),
        "P95": KpiValue(fmt.duration(duration.p95), mark=_few(duration.n, 20)),
        "P99": KpiValue(fmt.duration(duration.p99), mark=_few(duration.n, 100)),
        "TTFT": KpiValue(fmt.duration(summary.ttft_p50)),
        "tok/s": KpiValue(fmt.rate(flow)),
        "hit rate": KpiValue(
            fmt.percent(hits.total), _trend(series.exact + series.prefix), top=1.0, note="hit rate"
        ),
        "exact": KpiValue(fmt.percent(hits.exact)),
        "prefix": KpiValue(fmt.percent(hits.prefix)),
        "tokens saved": KpiValue(fmt.count(uses.saved.tokens)),
        "time saved": KpiValue(fmt.duration(uses.saved.seconds)),
        "calls": KpiValue(fmt.count(calls.n)),
        "failed": _failed(calls),
        "unreadable": _fault(calls.n_unreadable, mood="warn"),
        "dropped": _fault(store.dropped.until(now_s)),
        **({} if gone else _now(store, now_s)),
    }


def _few(n: int, needed: int) -> str:
    """A tilde where there are too few values for the percentile to mean much."""
    return "~" if 0 < n < needed else ""


def _fault(n: int, mood: Mood = "bad") -> KpiValue:
    """A count that should be 0."""
    return KpiValue(fmt.count(n), mood=mood if n else "", mark="!" if n else "")


def _failed(calls: CallTotals) -> KpiValue:
    """How many calls failed, of those whose result is known."""
    if not calls.n_results:
        return KpiValue(fmt.UNKNOWN)
    bad = calls.n_failed > 0
    text = f"{fmt.count(calls.n_failed)}/{fmt.count(calls.n_results)}"
    return KpiValue(text, mood="bad" if bad else "", mark="!" if bad else "")


def _trend(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _now(store: Store, now_s: float) -> dict[str, KpiValue]:
    """The last tick, as long as it is fresh."""
    recent = summed_ticks(store, now_s)
    if not recent:
        return {}
    tick = recent[-1]
    return {
        "running": KpiValue(fmt.known(tick.active)),
        "queue": _queue(tick),
        "memory": _memory(store, recent),
    }


def _queue(tick: Tick) -> KpiValue:
    text = fmt.known(tick.queued)
    if tick.queued is not None and tick.max_queued is not None:
        text += f"/{tick.max_queued}"
    full = tick.max_queued is not None and (tick.queued or 0) >= NEAR_LIMIT * tick.max_queued
    mood: Mood = "" if not tick.queued else "bad" if full else "warn"
    return KpiValue(text, mood=mood, mark="!" if mood == "bad" else "")


def _memory(store: Store, recent: list[Tick]) -> KpiValue:
    tick = recent[-1]
    limit_bytes = tick.memory_limit_bytes or (store.header.memory_bytes if store.header else 0)
    full = 0 < NEAR_LIMIT * limit_bytes <= tick.memory_active_bytes
    return KpiValue(
        fmt.size(tick.memory_active_bytes),
        tuple(float(each.memory_active_bytes) for each in recent),
        "bad" if full else "",
        float(limit_bytes) or None,
        "!" if full else "",
        f"of {fmt.size(limit_bytes, digits=0)}" if limit_bytes else "memory",
    )
