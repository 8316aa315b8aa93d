"""How the dashboard ends: asked where that ends a server at work, by itself without a terminal."""

from __future__ import annotations

import signal
import termios
from collections.abc import Callable

from textual import work
from textual.app import App

from mlxdeck.tui.screens.leave import LeaveScreen

LOOK_S = 1.0


class Leaving(App[None]):
    """A part of the application."""

    count_running: Callable[[], int] | None = None
    """Asks the server that ends with the dashboard how many requests it has; on a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._had_terminal = has_terminal()

    def watch_terminal(self) -> None:
        """End once the terminal is gone, also where no signal tells of it."""
        if self._had_terminal:
            self.set_interval(LOOK_S, self._look_for_terminal)

    def _look_for_terminal(self) -> None:
        if not has_terminal():
            self.exit(return_code=128 + signal.SIGHUP)

    async def action_quit(self) -> None:
        """Leave, or ask first if that would end requests."""
        if self.count_running is None or isinstance(self.screen, LeaveScreen):
            self.exit()
        else:
            self._count(self.count_running)

    @work(thread=True, group="leave", exclusive=True)
    def _count(self, count: Callable[[], int]) -> None:
        self.call_from_thread(self._leave_or_ask, count())

    def _leave_or_ask(self, n_running: int) -> None:
        if not n_running:
            self.exit()
        elif not isinstance(self.screen, LeaveScreen):
            self.push_screen(LeaveScreen(n_running), lambda leave: self.exit() if leave else None)


def has_terminal(fd: int = 0) -> bool:
    """Whether a terminal is behind standard input. One that was closed can't be asked."""
    try:
        termios.tcgetattr(fd)
    except termios.error:
        return False
    return True
