"""From a store to the content of the dashboard's panels: pure, and tested without Textual."""

from __future__ import annotations

from collections.abc import Sequence

from textual.markup import escape

from mlxdeck.telemetry.analyze.request_detail import DEFAULT_SERVER, server_url
from mlxdeck.telemetry.analyze.stats import Window
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt

_NO_STREAM = """[b]No stream yet[/b]

Nothing has been written to
  [b]{places}[/b]

Start a server in another terminal:
  [b]mlxdeck serve[/b]
or server and dashboard together:
  [b]mlxdeck up[/b]

This screen comes alive with the first event."""

_NO_WRITER = """[b]Waiting for a writer[/b]

Nothing has come yet through
  [b]{places}[/b]

This screen comes alive with the first event that is written to it."""

_NOT_REACHED = """[b]Not reached[/b]

  [b]{places}[/b]
since {since}. It is asked again and again: this screen comes alive once it answers."""

_ANSWERS = """[b]Nothing recorded yet[/b]

  [b]{places}[/b]
answers, but has written no event so far. This screen comes alive with the first one."""

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


def no_stream(ctx: Context) -> str:
    """Text shown before the first event, as markup."""
    if ctx.beside.unrecorded:
        return _UNRECORDED
    listed = escape("\n  ".join(ctx.place_names))
    if ctx.beside.mirrors:
        failing = [mirror for mirror in ctx.beside.mirrors if mirror.trouble]
        if not failing:
            return _ANSWERS.format(places=listed)
        told = escape("\n  ".join(mirror.trouble for mirror in failing))
        since_ts = min(mirror.trouble_ts for mirror in failing)
        return _NOT_REACHED.format(places=told, since=fmt.clock(since_ts))
    if ctx.source.is_waiting:
        return _NO_WRITER.format(places=listed)
    return (_NOTHING if ctx.clock.replay else _NO_STREAM).format(places=listed)


def no_requests(
    store: Store, *, filtered: bool, replay: bool = False, hint: str = ""
) -> Sequence[str]:
    """Text shown while the list of requests is empty; `hint` is what the filter may have meant."""
    if replay and not filtered:
        return [
            "nothing was asked before this moment  ·  ]: to the first request"
            if store.n
            else "there is no request in this recording"
        ]
    if store.n:
        told = ["no request matches  ·  esc: all of them", *filter(None, [hint])]
        return told if filtered else ["none at this moment"]
    url = server_url(store.header)
    port = "" if url == DEFAULT_SERVER else f" --port {url.rpartition(':')[2]}"
    return [
        "no request yet; in a terminal:",
        "",
        f"  mlxdeck claude{port}",
        f"  mlxdeck check{port}",
    ]


def nothing_in(store: Store, window: Window, now_s: float, *, filtered: bool, n_listed: int) -> str:
    """Why a chart is empty, and what would help; `n_listed` requests match, in any window."""
    what = "no match" if filtered else "nothing"
    is_all = window.length_s is None or not store.by_end.until(now_s - window.length_s)
    if is_all or (filtered and not n_listed):
        # A longer window has no more.
        return f"{what} yet"
    return f"{what} in the last {window.label}  ·  w: longer"
