"""Every action of the dashboard in the command palette."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial

from textual.app import SystemCommand
from textual.markup import escape
from textual.screen import Screen

from mlxdeck.tui.panels.registry import PANELS

ACTIONS = (
    ("Window: next", "Show the next stretch of time: 1m, 5m, 15m, 1h, all", "app.window"),
    ("Pause or resume", "Keep the view as it is; data keeps arriving", "app.pause"),
    ("Why", "List the requests behind the line at the top", "verdict"),
    ("Filter", "Show only the requests that match", "filter"),
    ("No filter", "Show every request again", "unfilter"),
    ("Filter: keep", "Give the filter that is in force a name", "keep"),
    ("Filter: help", "What can be filtered by", "language"),
    ("Bad lines", "What could not be read of the stream, and why", "app.problems"),
    ("Sessions", "Requests grouped by conversation", "app.sessions"),
    ("Compare", "Mark a request, then compare another one with it", "compare"),
    ("Order: next", "Newest, slowest or longest requests first", "order"),
    ("Export", "Write the requests that are listed to a file", "export"),
    ("Log scale", "Latency on a linear or a logarithmic scale", "log"),
    ("Dots", "Charts in braille, in blocks or in ASCII", "marker"),
    *((f"Panel: {kind.name}", "Show or hide it", f"panel('{kind.id}')") for kind in PANELS),
    ("Replay: seek", "Go to a time, a share or by a step", "app.seek"),
    ("Replay: faster", "The next speed", "app.faster(1)"),
    ("Replay: slower", "The speed before", "app.faster(-1)"),
    ("Replay: start", "Go to the recording's start", "app.go_start"),
    ("Replay: end", "Go to the recording's end", "app.go_end"),
    ("Replay: step", "Stand still where the next request ended", "app.step_request(1)"),
    ("Replay: step back", "Stand still where the one before ended", "app.step_request(-1)"),
    ("Compare with before", "The session's request before the one that is shown", "compare_before"),
    ("Copy as JSON", "The request that is shown", "copy_json"),
    ("Copy as curl", "The request that is shown, as a command", "copy_curl"),
    ("Fold", "Open or close the conversation's blocks", "fold"),
    ("Dark or light", "Switch between a dark and a light theme", "app.dark"),
    ("Newest request", "Go to the newest request and follow", "app.newest"),
)


def palette(screen: Screen[object], allowed: Callable[[str], bool]) -> Iterator[SystemCommand]:
    """The commands that are allowed, bound to the screen they act on."""
    for title, text, action in ACTIONS:
        name, _, _ = action.removeprefix("app.").partition("(")
        holder = screen.app if action.startswith("app.") else screen
        if allowed(name) and hasattr(holder, f"action_{name}"):
            yield SystemCommand(title, text, _runner(screen, action))


def kept_filters(
    filters: Mapping[str, str], use: Callable[[str], None], forget: Callable[[str], None]
) -> Iterator[SystemCommand]:
    """A command for each filter that has a name, and one that takes the name away."""
    for name, text in filters.items():
        yield SystemCommand(f"Filter: {escape(name)}", escape(text), partial(use, text))
        yield SystemCommand(f"Forget filter: {escape(name)}", escape(text), partial(forget, name))


def _runner(screen: Screen[object], action: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await screen.run_action(action)

    return run
