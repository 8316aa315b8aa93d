"""The line at the top: whether it lives, which window, what is wrong, and what runs."""

from __future__ import annotations

from textual.markup import escape

from mlxdeck.telemetry.store import Store
from mlxdeck.tui import format as fmt
from mlxdeck.tui.context import Context

PROGRESS_CELLS = 10
MAX_FILTER = 40
STALE_S = 60.0
"""After so long without an event it is said how long ago the last one was."""


def parts(ctx: Context) -> list[str]:
    """As markup, the most telling first."""
    store, listing = ctx.store, ctx.listing
    found = [f"[b]mlxdeck[/b]  {_state(ctx)}", f"window [b]{ctx.window.label}[/b]"]
    if ctx.source.loaded < 1:
        found.append(_progress(ctx.source.loaded))
    if listing.text:
        searching = "  searching…" if ctx.sought else ""
        shown = escape(fmt.one_line(listing.text, MAX_FILTER))
        found.append(f"[b $text-accent]/ {shown}[/]{searching}")
    if ctx.alarm.active:
        found.append("[b $text-error]! " + "; ".join(a.text for a in ctx.alarm.active) + "[/]")
    if ctx.source.n_bad:
        found.append(f"[b $text-warning]! {ctx.source.n_bad:,} bad lines (x)[/]")
    if store.n_dropped:
        found.append(f"[b $text-error]! {store.n_dropped} lines dropped[/]")
    if ctx.source.refused:
        found.append(f"[b $text-error]! {escape(ctx.source.refused)}[/]")
    quiet_s = ctx.clock.now - store.last_ts
    if store.n_lines and not ctx.clock.replay and quiet_s > STALE_S:
        found.append(f"last event {fmt.duration(quiet_s)} ago")
    return found + _server(store)


def _server(store: Store) -> list[str]:
    """What the server said of itself."""
    header, found = store.header, []
    if header:
        found.append(f"[b]{escape(header.model)}[/] on {header.device or '?'}")
        if header.server_port:
            found.append(f"{header.server_address}:{header.server_port}")
        found.append(f"context {header.context_tokens:,} tokens")
        if header.chip and header.memory_bytes:
            found.append(f"{escape(header.chip)}, {fmt.size(header.memory_bytes)}")
    return found


def _progress(share: float) -> str:
    done = round(share * PROGRESS_CELLS)
    bar = "━" * done + "[$foreground 30%]" + "━" * (PROGRESS_CELLS - done) + "[/]"
    return f"loading [$accent]{bar}[/] {fmt.percent(share)}"


def _state(ctx: Context) -> str:
    if ctx.clock.replay:
        return "[b $text-accent]↻ replay[/]"
    if ctx.clock.paused:
        return f"[b $text-warning]‖ paused[/]  {ctx.store.n - ctx.n_held} new"
    if ctx.source.following:
        return "[b $text-success]● live[/]"
    return "[b $text-muted]○ waiting[/]"
