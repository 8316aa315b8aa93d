"""Every action of the dashboard in the command palette."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from textual.app import SystemCommand
from textual.screen import Screen

ACTIONS = (
    ("Window: next", "Show the next stretch of time: 1m, 5m, 15m, 1h, all", "app.window"),
    ("Pause or resume", "Keep the view as it is; data keeps arriving", "app.pause"),
    ("Log scale", "Latency on a linear or a logarithmic scale", "log"),
    ("Dark or light", "Switch between a dark and a light theme", "app.dark"),
    ("Newest request", "Go to the newest request and follow", "app.newest"),
)


def palette(screen: Screen[object]) -> Iterator[SystemCommand]:
    """The commands, bound to the screen they act on."""
    for title, text, action in ACTIONS:
        if action.startswith("app.") or hasattr(screen, f"action_{action}"):
            yield SystemCommand(title, text, _runner(screen, action))


def _runner(screen: Screen[object], action: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await screen.run_action(action)

    return run
