"""The top line: live or not, the window, problems, and the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from textual.content import Content

from mlxdeck.telemetry.analyze.running_servers import (
    all_stopped,
    header_at,
    headers_at,
    latest_tick,
)
from mlxdeck.telemetry.schema.events import Tick
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt

PROGRESS_CELLS = 10
MAX_FILTER, MIN_FILTER = 40, 14
MAX_NAME = 40
_BETWEEN = Content("  │  ")
_ACCENT, _GOOD, _WARN, _BAD = (
    f"b $text-{name}" for name in ("accent", "success", "warning", "error")
)


class StatusPart(NamedTuple):
    """One part of the line. A part with a short form is shown even where there is little room."""

    text: Content
    short: Content | None = None


def parts(ctx: Context) -> Iterator[StatusPart]:
    """The most telling first."""
    source, state, window = ctx.source, _state(ctx), Content.styled(ctx.window.label, "b")
    yield StatusPart(Content.assemble(("mlxdeck", "b"), "  ", state), state)
    yield StatusPart(Content.assemble("window ", window), window)
    if source.loaded < 1:
        yield StatusPart(_progress(source.loaded), Content(fmt.percent(source.loaded)))
    if filtered := ctx.listing.text:
        long, short = (f"/ {fmt.one_line(filtered, n)}" for n in (MAX_FILTER, MIN_FILTER))
        searching = "  searching…" if ctx.sought else ""
        yield StatusPart(
            Content.assemble((long, _ACCENT), searching), Content.styled(short, _ACCENT)
        )
    yield from _troubles(ctx)
    if all_stopped(ctx.store, ctx.clock.now):
        word = "gone" if ctx.store.servers.is_gone else "stopped"
        yield _mark(f"server {word}", word, _WARN)
    if ctx.clock.over:
        yield _last_event(ctx)
    for text in _models(latest_tick(ctx.store, ctx.clock.now)):
        yield StatusPart(Content.styled(text, _WARN))
    yield from map(StatusPart, _server(ctx))


def _troubles(ctx: Context) -> Iterator[StatusPart]:
    """What is crossed, and what could not be read or reached."""
    source = ctx.source
    if active := ctx.alarm.active:
        some = fmt.counted(len(active), "alert")
        yield _mark("; ".join(alert.text for alert in active), some)
    if source.n_bad:
        yield _mark(
            f"{fmt.counted(source.n_bad, 'bad line')} (x)", f"{source.n_bad:,} bad (x)", _WARN
        )
    if mixed := ctx.store.shared_ids.mixed:
        some = fmt.counted(len(mixed), "id")
        yield _mark(f"{some} of several requests, counted as one", f"{some} twice", _WARN)
    if n_dropped := ctx.store.dropped.until(ctx.clock.now):
        yield _mark(
            f"{fmt.counted(n_dropped, 'line')} dropped",
            f"{n_dropped:,} dropped",
        )
    if source.refused:
        yield _mark(source.refused, "refused (x)")
    for mirror in ctx.beside.mirrors:
        if mirror.trouble:
            yield _mark(mirror.trouble, f"{mirror.place} does not answer")
        elif not mirror.is_recording:
            yield _mark(f"telemetry is off on {mirror.place}", "telemetry is off", _WARN)


def _last_event(ctx: Context) -> StatusPart:
    """When it was: that is the moment which is shown."""
    last_ts, wall_ts = ctx.store.last_ts, ctx.clock.wall
    at = fmt.dated(last_ts) if fmt.days_apart(last_ts, wall_ts) else fmt.clock(last_ts)
    if wall_ts - last_ts < 1:
        return StatusPart(Content(f"last event {at}"), Content(at))
    ago = f"{fmt.duration(wall_ts - last_ts)} ago"
    return StatusPart(Content(f"last event {at}, {ago}"), Content(ago))


def _mark(text: str, short: str, style: str = _BAD) -> StatusPart:
    return StatusPart(Content.styled(f"! {text}", style), Content.styled(f"! {short}", style))


def fitted(told: Iterable[StatusPart], width: int) -> Content:
    """The parts in one line of `width` cells.

    Parts with a short form come first, in full as far as there is room, else in short. The other
    parts follow, as many as fit.
    """
    told = list(told)
    pressing = [(part.text, part.short) for part in told if part.short]
    texts = [short for _, short in pressing]
    while len(texts) > 1 and _line(texts).cell_length > width:
        texts.pop()
    for place, (long, _) in enumerate(pressing[: len(texts)]):
        longer = [*texts[:place], long, *texts[place + 1 :]]
        texts = longer if _line(longer).cell_length <= width else texts
    for other in (part.text for part in told if not part.short):
        if _line([*texts, other]).cell_length > width:
            break
        texts.append(other)
    return _line(texts)


def _line(texts: Sequence[Content]) -> Content:
    return _BETWEEN.join(texts)


def _models(tick: Tick | None) -> Iterator[str]:
    """The models that aren't in memory now."""
    if tick is not None:
        yield from (f"{fmt.one_line(name, MAX_NAME)} unloaded" for name in tick.unloaded_models)
        yield from (f"{fmt.one_line(name, MAX_NAME)} loading" for name in tick.loading_models)


def _server(ctx: Context) -> Iterator[Content]:
    """A server's description of itself as of now; one elsewhere has the address that was asked.

    Several that run are named.
    """
    several = headers_at(ctx.store, ctx.clock.now)
    if len(several) > 1:
        named = (f"{fmt.one_line(each.model, MAX_NAME)} :{each.server_port}" for each in several)
        yield Content.assemble((f"{len(several)} servers", "b"), f": {', '.join(named)}")
        return
    if header := header_at(ctx.store, ctx.clock.now):
        yield Content.assemble((header.model, "b"), f" on {header.device or '?'}")
        if ctx.beside.mirrors:
            yield Content(", ".join(mirror.place for mirror in ctx.beside.mirrors))
        elif header.server_port:
            yield Content(f"{header.server_address}:{header.server_port}")
        if header.context_tokens:
            yield Content(f"context {header.context_tokens:,} tokens")
        if header.chip and header.memory_bytes:
            yield Content(f"{header.chip}, {fmt.size(header.memory_bytes)}")


def _progress(share: float) -> Content:
    done = round(share * PROGRESS_CELLS)
    left = ("━" * (PROGRESS_CELLS - done), "$grid")
    return Content.assemble("loading ", ("━" * done, "$accent"), left, f" {fmt.percent(share)}")


def _state(ctx: Context) -> Content:
    if ctx.clock.replay:
        return Content.styled("↻ replay", _ACCENT)
    if ctx.clock.paused:
        n_new = ctx.store.n - ctx.n_held
        return Content.assemble(("‖ paused", _WARN), f"  {n_new} new")
    if ctx.beside.mirrors and all(mirror.trouble for mirror in ctx.beside.mirrors):
        return Content.styled("✗ not reached", _BAD)
    if ctx.clock.over:
        return Content.styled("■ ended", "b $text-muted")
    if ctx.source.following and ctx.store.n_lines:
        return Content.styled("● live", _GOOD)
    return Content.styled("○ waiting", "b $text-muted")
