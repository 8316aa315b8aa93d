"""From a store to what the dashboard's panels show: pure, and tested without Textual."""

from __future__ import annotations

from mlxdeck.telemetry.events import Tick
from mlxdeck.telemetry.stats import Summary, Window
from mlxdeck.telemetry.store import Store
from mlxdeck.telemetry.trend import Series
from mlxdeck.tui import format as fmt
from mlxdeck.tui.widgets.kpi import Figure

TICK_FRESH_S = 15.0
"""An older tick says nothing of now: a server ticks every ten seconds even when idle."""
TREND_TICKS = 40


def figures(store: Store, summary: Summary, series: Series, now_s: float) -> dict[str, Figure]:
    """Every tile of the strip."""
    duration = summary.duration
    errors = summary.n_errors
    return {
        "reqs": Figure(fmt.count(summary.n_requests), _trend(series.n)),
        "P50": Figure(fmt.duration(duration.p50), _trend(series.durations[0])),
        "P95": Figure(
            fmt.duration(duration.p95), _trend(series.durations[1]), mark=_few(duration.n, 20)
        ),
        "P99": Figure(
            fmt.duration(duration.p99), _trend(series.durations[2]), mark=_few(duration.n, 100)
        ),
        "TTFT": Figure(fmt.duration(summary.ttft.p50), _trend(series.ttft)),
        "exact": Figure(fmt.percent(summary.hits.exact), _trend(series.exact), top=1.0),
        "prefix": Figure(fmt.percent(summary.hits.prefix), _trend(series.prefix), top=1.0),
        "tools": Figure(fmt.count(summary.n_tool_calls), _trend(series.n_tool_calls)),
        "errors": Figure(
            fmt.count(errors),
            _trend(series.errors),
            mood="bad" if errors else "",
            mark="!" if errors else "",
        ),
        **_now(store, now_s),
    }


def _few(n: int, needed: int) -> str:
    """A tilde where there are too few values for the percentile to mean much."""
    return "~" if 0 < n < needed else ""


def _trend(values: object) -> tuple[float, ...]:
    return tuple(float(value) for value in values)  # type: ignore[attr-defined]


def latest_tick(store: Store, now_s: float) -> Tick | None:
    """What the server said of itself last at a moment, unless that was long before."""
    place = store.ticks.until(now_s)
    if not place or now_s - store.ticks.times[place - 1] > TICK_FRESH_S:
        return None
    return store.ticks[place - 1]


def _now(store: Store, now_s: float) -> dict[str, Figure]:
    """What the last tick says, as long as it is fresh."""
    tick = latest_tick(store, now_s)
    if tick is None:
        off = Figure(fmt.UNKNOWN)
        return {"active": off, "tok/s": off, "memory": off}
    place = store.ticks.until(now_s)
    recent = store.ticks[max(0, place - TREND_TICKS) : place]
    return {
        "active": Figure(
            f"{tick.active} · {tick.queued}",
            tuple(float(t.active + t.queued) for t in recent),
            "warn" if tick.queued else "",
        ),
        "tok/s": Figure(
            fmt.rate(tick.output_tokens_per_s), tuple(t.output_tokens_per_s for t in recent)
        ),
        "memory": Figure(
            fmt.size(tick.memory_active_bytes),
            tuple(float(t.memory_active_bytes) for t in recent),
            top=float(store.header.memory_bytes) or None if store.header else None,
        ),
    }


def edges(series: Series, window: Window, now_s: float, look_back: int) -> tuple[str, str, str]:
    """What stands under a chart: left end, middle, right end."""
    length_s = series.bucket_s * len(series.n)
    middle = f"each point: last {fmt.tick(_round(length_s / look_back))}"
    if window.length_s is not None:
        return f"-{window.label}", middle, "now"
    return fmt.moment(series.start_ts, length_s), middle, fmt.moment(now_s, length_s)


def _round(seconds: float) -> float:
    return round(seconds, 1 if seconds < 10 else 0)
