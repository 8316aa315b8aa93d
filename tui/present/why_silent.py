"""Why nothing comes any more, of servers that haven't said that they stop. Pure."""

from __future__ import annotations

from typing import NamedTuple

from mlxdeck.telemetry.analyze.sentences import listed
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt


class WhySilent(NamedTuple):
    """What a person should know of it."""

    text: str
    advice: str
    is_bad: bool = True


def why_silent(ctx: Context, now_s: float) -> WhySilent | None:
    """Of a moment; None while something may come, or if the server said that it stops."""
    servers, since = ctx.store.servers, fmt.clock(ctx.store.last_ts)
    if not ctx.is_silent or (servers.stopped(now_s) and not servers.is_gone):
        return None
    if servers.is_gone:
        text = f"the server's process is gone since {since}: it may have been killed"
        return WhySilent(text, "its log says why")
    if left := ctx.source.left:
        names = listed([fmt.one_line(each, 40) for each in left])
        return WhySilent(f"{names}: its writer closed it", f"the last line came at {since}", False)
    text = f"no word from the server since {since}: it may have been killed"
    return WhySilent(text, "mlxdeck doctor looks for it")
