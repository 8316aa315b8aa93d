"""From a store to the content of the dashboard's panels: pure, and tested without Textual."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.markup import escape

from mlxdeck.telemetry.analyze.request_detail import DEFAULT_SERVER, server_url
from mlxdeck.telemetry.analyze.running_servers import summed_ticks
from mlxdeck.telemetry.analyze.stats import Summary, Window
from mlxdeck.telemetry.analyze.time_series import Series
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.kpi import KpiValue
from mlxdeck.tui.widgets.line_chart import TimeAxis

_NO_STREAM = """[b]No stream yet[/b]

Nothing has been written to
  [b]{places}[/b]

Start a server in another terminal:
  [b]mlxdeck serve[/b]
or server and dashboard together:
  [b]mlxdeck up[/b]

This screen comes alive with the first event."""

_NOTHING = """[b]Nothing to replay[/b]

There is no event in
  [b]{places}[/b]

In a folder, streams are looked for whose names are like
  [b]mlxdeck-20261124-093000-4711.jsonl[/b]
Any other file is replayed by its own name."""

_UNRECORDED = """[b]Telemetry is off[/b]

The server runs, but it records nothing, so this screen stays empty.
To see its requests, leave out [b]--no-telemetry[/b], [b]MLXDECK_TELEMETRY=0[/b] and
[b]telemetry = false[/b] in mlxdeck.toml. [b]mlxdeck config[/b] shows which one is set.

[b]q[/b] leaves and ends the server."""

STEPS = {60.0: 4, 300.0: 5, 900.0: 3, 3600.0: 4}
"""Into how many parts the axis of a window is divided, so that each is a round time."""
N_STEPS = 4


def figures(store: Store, summary: Summary, series: Series, now_s: float) -> dict[str, KpiValue]:
    """Every tile of the strip."""
    duration = summary.duration
    errors = summary.n_errors
    return {
        "reqs": KpiValue(fmt.count(summary.n_requests), _trend(series.n)),
        "P50": KpiValue(fmt.duration(duration.p50), _trend(series.durations[0])),
        "P95": KpiValue(
            fmt.duration(duration.p95), _trend(series.durations[1]), mark=_few(duration.n, 20)
        ),
        "P99": KpiValue(
            fmt.duration(duration.p99), _trend(series.durations[2]), mark=_few(duration.n, 100)
        ),
        "TTFT": KpiValue(fmt.duration(summary.ttft_p50), _trend(series.ttft)),
        "exact": KpiValue(fmt.percent(summary.hits.exact), _trend(series.exact), top=1.0),
        "prefix": KpiValue(fmt.percent(summary.hits.prefix), _trend(series.prefix), top=1.0),
        "tools": KpiValue(fmt.count(summary.n_tool_calls), _trend(series.n_tool_calls)),
        "errors": KpiValue(
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


def _now(store: Store, now_s: float) -> dict[str, KpiValue]:
    """The last tick, as long as it is fresh."""
    recent = summed_ticks(store, now_s)
    if not recent:
        off = KpiValue(fmt.UNKNOWN)
        return {"active": off, "tok/s": off, "memory": off}
    tick = recent[-1]
    return {
        "active": KpiValue(
            f"{tick.active} · {fmt.known(tick.queued)}",
            tuple(float(t.active + (t.queued or 0)) for t in recent),
            "warn" if tick.queued else "",
        ),
        "tok/s": KpiValue(
            fmt.rate(tick.output_tokens_per_s), tuple(t.output_tokens_per_s for t in recent)
        ),
        "memory": KpiValue(
            fmt.size(tick.memory_active_bytes),
            tuple(float(t.memory_active_bytes) for t in recent),
            top=float(store.header.memory_bytes) or None if store.header else None,
        ),
    }


def time_axis(series: Series, window: Window, now_s: float) -> TimeAxis:
    """Labels of a chart's time axis: how long ago, or the time of day."""
    n_buckets = len(series.n)
    length_s = series.bucket_s * n_buckets
    end_ts = series.start_ts + length_s
    if window.length_s is None:
        shares = [n / N_STEPS for n in range(N_STEPS)]
        texts = [fmt.moment(series.start_ts + share * length_s, length_s) for share in shares]
        return TimeAxis(series.start_ts, end_ts, (*texts, fmt.moment(now_s, length_s)))
    n_steps = STEPS.get(window.length_s, N_STEPS)
    ago_s = [window.length_s * n / n_steps for n in range(n_steps, 0, -1)]
    return TimeAxis(series.start_ts, end_ts, (*(f"-{fmt.tick(s)}" for s in ago_s), "now"))


def no_stream(places: Sequence[Path], *, replay: bool, unrecorded: bool = False) -> str:
    """Text shown before the first event, as markup."""
    if unrecorded:
        return _UNRECORDED
    listed = escape("\n  ".join(map(str, places)))
    return (_NOTHING if replay else _NO_STREAM).format(places=listed)


def no_requests(store: Store, *, filtered: bool) -> Sequence[str]:
    """Text shown while the list of requests is empty."""
    if store.n:
        return ["no request matches  ·  esc: all of them"] if filtered else ["none at this moment"]
    url = server_url(store.header)
    port = "" if url == DEFAULT_SERVER else f" --port {url.rpartition(':')[2]}"
    return [
        "no request yet; in a terminal:",
        "",
        f"  mlxdeck claude{port}",
        f"  mlxdeck check{port}",
    ]


def nothing_in(store: Store, window: Window, *, filtered: bool) -> str:
    """Why a chart is empty, and what would help."""
    what = "no match" if filtered else "nothing"
    if window.length_s is None or not store.n:
        return f"{what} yet"
    return f"{what} in the last {window.label}  ·  w: longer"
