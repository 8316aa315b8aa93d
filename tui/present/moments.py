"""What stands on the time axis of charts: round times, and what happened to servers. Pure."""

from __future__ import annotations

from mlxdeck.telemetry.analyze.time_grid import span_s
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.time_axis import TimeMark, TimeTick, ago_ticks, clock_ticks

MAX_NAME = 24


def ticks(ctx: Context, now_s: float, width: int, end_ts: float) -> tuple[TimeTick, ...]:
    """How long ago, where the present is shown; else times of day. The same for all charts.

    `width` is that of the narrowest of them. `end_ts` is where an axis ends: what is told from
    there stands still while time passes.
    """
    clock, length_s = ctx.clock, span_s(ctx.store, ctx.window, now_s)
    is_present = not (clock.replay or clock.over or clock.paused)
    if is_present and ctx.window.length_s is not None:
        return ago_ticks(end_ts, length_s, width)
    return clock_ticks(now_s - length_s, now_s, width)


def marks(store: Store, start_ts: float, now_s: float) -> tuple[TimeMark, ...]:
    """Where a server began, stopped, or had another model than the one before."""
    return tuple(
        TimeMark(
            mark.ts, fmt.one_line(mark.model, MAX_NAME) if mark.change == "model" else mark.change
        )
        for mark in store.servers.marks(start_ts, now_s)
    )
