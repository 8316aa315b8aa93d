"""What the servers that run at a moment say of themselves, added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlxdeck.telemetry.schema.events import StreamStart, Tick
from mlxdeck.telemetry.store.bounded_history import TickRow
from mlxdeck.telemetry.store.process_lives import SILENT_S
from mlxdeck.telemetry.store.store import Store

TICK_FRESH_S = 15.0
"""An older tick says nothing of now: a server ticks every ten seconds even when idle."""
TREND_TICKS = 40
"""How many ticks back a trend goes."""


def stream_end(store: Store, wall_ts: float, *, is_closed: bool = False) -> float | None:
    """When the streams ended; None if they go on. Those of pipes are over once they are closed.

    `wall_ts` is by the clock of what writes them. As long as that is not known, a time that is far
    away is taken for an end: what the stream tells is shown in any case.
    """
    if not store.n_lines:
        return None
    silent = abs(wall_ts - store.last_ts) > SILENT_S
    return store.last_ts if is_closed or silent or all_stopped(store, wall_ts) else None


def all_stopped(store: Store, now_s: float) -> bool:
    """Whether the newest server of a moment has stopped, and no other one runs."""
    return store.servers.stopped(now_s) and latest_tick(store, now_s) is None


def header_at(store: Store, now_s: float) -> StreamStart | None:
    """What the newest server that runs at a moment says of itself; else the newest of all."""
    return store.servers.header_at(now_s, _running(store, now_s))


def headers_at(store: Store, now_s: float) -> list[StreamStart]:
    """What each server that runs at a moment says of itself, in the order of their starts."""
    return store.servers.headers_at(now_s, _running(store, now_s))


def _running(store: Store, now_s: float) -> set[int]:
    """The processes that tick at a moment."""
    place = store.ticks.until(now_s)
    return {
        row.pid
        for row in store.ticks[max(0, place - TREND_TICKS) : place]
        if row.ts >= now_s - TICK_FRESH_S and not row.ts <= store.stopped_ts(row.pid) <= now_s
    }


def latest_tick(store: Store, now_s: float) -> Tick | None:
    """The last tick of the servers at a moment; None if that tick is too old."""
    found = summed_ticks(store, now_s)
    return found[-1] if found else None


def summed_ticks(store: Store, now_s: float) -> list[Tick]:
    """The ticks of all servers that ran at a moment, added up; the last one is the newest.

    Empty if there was no recent tick, or all servers have stopped.
    """
    place = store.ticks.until(now_s)
    rows = store.ticks[max(0, place - TREND_TICKS) : place]
    if not rows or now_s - rows[-1].ts > TICK_FRESH_S:
        return []
    latest: dict[int, TickRow] = {}

    def running(ts: float) -> list[Tick]:
        """The last tick of each server that still ran at a moment."""
        return [
            row.tick
            for row in latest.values()
            if row.ts >= ts - TICK_FRESH_S and not row.ts <= store.stopped_ts(row.pid) <= ts
        ]

    sums = []
    for row in rows:
        latest[row.pid] = row
        sums.append(_sum(running(row.ts)))
    now = running(now_s)
    return [*sums[:-1], _sum(now)] if now else []


def _sum(ticks: Sequence[Tick]) -> Tick:
    if len(ticks) == 1:
        return ticks[0]
    return Tick(
        active=sum(tick.active for tick in ticks),
        queued=_known_sum(tick.queued for tick in ticks),
        max_active=_known_sum(tick.max_active for tick in ticks),
        max_queued=_known_sum(tick.max_queued for tick in ticks),
        output_tokens_per_s=sum(tick.output_tokens_per_s for tick in ticks),
        memory_active_bytes=sum(tick.memory_active_bytes for tick in ticks),
        memory_limit_bytes=_known_sum(tick.memory_limit_bytes for tick in ticks),
        unloaded_models=tuple(name for tick in ticks for name in tick.unloaded_models),
        loading_models=tuple(name for tick in ticks for name in tick.loading_models),
    )


def _known_sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
