"""The dashboard: reads streams on a thread of its own, keeps the store, and shows it.

All state changes happen here, in handlers on the event loop; the reading thread only posts
messages. What is on screen is redrawn at most four times a second, and only where it changed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from textual import on, work
from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.screen import Screen
from textual.worker import get_current_worker

from mlxdeck.telemetry.stats import WINDOWS
from mlxdeck.telemetry.store import Store
from mlxdeck.telemetry.tail import CHUNK_BYTES, Tail
from mlxdeck.tui import format as fmt
from mlxdeck.tui.commands import palette
from mlxdeck.tui.messages import RecordsArrived, RequestChosen, SourceChanged
from mlxdeck.tui.screens.dashboard import DashboardScreen
from mlxdeck.tui.screens.help import HelpScreen
from mlxdeck.tui.screens.request import RequestScreen
from mlxdeck.tui.widgets.request_table import RequestTable

POLL_S = 0.15
REDRAW_S = 0.25
MAX_QUEUED_MESSAGES = 8
"""The reading thread waits while the application is behind by more than this."""
THEMES = ("tokyo-night", "textual-light")


class Dashboard(App[None]):
    """Shows telemetry as it is written."""

    TITLE = "mlxdeck"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal"), (180, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    BINDINGS = [
        Binding("w", "window", "Window", tooltip="Next window: 1m, 5m, 15m, 1h, all"),
        Binding("space", "pause", "Pause", tooltip="Hold the view, or go on; data keeps arriving"),
        Binding("d", "dark", "Theme", tooltip="Dark or light"),
        Binding("g", "newest", "Newest", show=False, tooltip="Go to the newest, and follow"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="These keys"),
        Binding("q", "quit", "Quit", tooltip="Leave"),
    ]

    def __init__(
        self, paths: Sequence[Path], *, clock: Callable[[], float] = time.time, window: str = "5m"
    ) -> None:
        super().__init__()
        self._paths = list(paths)
        self._clock = clock
        self.store = Store()
        self.window = next(each for each in WINDOWS if each.label == window)
        self.paused_at_s: float | None = None
        self._source = SourceChanged([], 0, "", "")
        self._stale = True
        self._drawn_s = 0.0

    def on_mount(self) -> None:
        self.theme = THEMES[0]
        self.push_screen(DashboardScreen(self.store, [str(path) for path in self._paths]))
        self.set_interval(REDRAW_S, self._redraw)
        self._read()

    @work(thread=True, exit_on_error=True)
    def _read(self) -> None:
        """Follow the streams until the application ends. On a thread: touches no widget."""
        worker, tail, before = get_current_worker(), Tail(self._paths), None
        while not worker.is_cancelled:
            records = tail.poll(CHUNK_BYTES // 2)
            following = [str(path) for path in tail.following]
            last_bad = tail.bad[-1].reason if tail.bad else ""
            source = SourceChanged(following, tail.n_bad, last_bad, tail.refused)
            state = (source.following, source.n_bad, source.refused)
            if state != before:
                before = state
                self.post_message(source)
            if records:
                self.post_message(RecordsArrived(records))
            while self.message_queue_size > MAX_QUEUED_MESSAGES and not worker.is_cancelled:
                time.sleep(POLL_S / 10)
            if not records:
                time.sleep(POLL_S)
        tail.close()

    @on(RecordsArrived)
    def _take(self, message: RecordsArrived) -> None:
        self.store.feed(message.records)
        self._stale = True

    @on(SourceChanged)
    def _note_source(self, message: SourceChanged) -> None:
        self._source = message
        self._stale = True

    @on(RequestChosen)
    def _open(self, message: RequestChosen) -> None:
        self.push_screen(RequestScreen(self.store, message.row))

    def _redraw(self) -> None:
        """Draw what changed; without news, once a second, for the window moves on."""
        now_s = self._clock()
        if not self._stale and now_s - self._drawn_s < 1:
            return
        screen = self.screen
        if isinstance(screen, DashboardScreen) and screen.is_mounted:
            if self.paused_at_s is None:
                screen.show(self.window, now_s)
            screen.show_status(self._status())
            self._stale, self._drawn_s = False, now_s
        elif isinstance(screen, RequestScreen) and self._stale:
            screen.refresh_row()
            self._stale = False

    def _status(self) -> list[str]:
        """The top line: whether it lives, which window, what is wrong, and what runs."""
        header = self.store.header
        if self.paused_at_s is not None:
            n_new = self.store.n - self.screen.query_one(RequestTable).n_items
            state = f"[b $text-warning]‖ paused[/]  {n_new} new"
        elif self._source.following:
            state = "[b $text-success]● live[/]"
        else:
            state = "[b $text-muted]○ waiting[/]"
        parts = [f"[b]mlxdeck[/b]  {state}", f"window [b]{self.window.label}[/b]"]
        if self._source.n_bad:
            parts.append(f"[b $text-warning]! {self._source.n_bad} bad lines[/]")
        if self.store.n_dropped:
            parts.append(f"[b $text-error]! {self.store.n_dropped} lines dropped[/]")
        if self._source.refused:
            parts.append(f"[b $text-error]! {self._source.refused}[/]")
        if header:
            parts.append(f"[b]{header.model}[/] on {header.device or '?'}")
            if header.server_port:
                parts.append(f"{header.server_address}:{header.server_port}")
            parts.append(f"context {header.context_tokens:,} tokens")
            if header.chip and header.memory_bytes:
                parts.append(f"{header.chip}, {fmt.size(header.memory_bytes)}")
        return parts

    def action_window(self) -> None:
        """The next window."""
        self.window = WINDOWS[(WINDOWS.index(self.window) + 1) % len(WINDOWS)]
        self.redraw_now()

    def action_pause(self) -> None:
        """Hold the view, or go on; data keeps arriving either way."""
        self.paused_at_s = self._clock() if self.paused_at_s is None else None
        self.redraw_now()

    def action_dark(self) -> None:
        """Switch between a dark and a light theme."""
        self.theme = THEMES[1] if self.current_theme.dark else THEMES[0]

    def action_newest(self) -> None:
        """Go to the newest request, and follow."""
        for table in self.screen.query(RequestTable):
            table.action_newest()

    def action_help(self) -> None:
        """Show what the keys do here."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Some actions are for the dashboard alone."""
        if action in {"window", "pause", "newest"}:
            return isinstance(self.screen, DashboardScreen)
        return True

    def redraw_now(self) -> None:
        """Draw at the next opportunity, whatever changed."""
        self._stale = True
        if self.paused_at_s is not None and isinstance(self.screen, DashboardScreen):
            self.screen.show(self.window, self.paused_at_s, with_lists=False)
        self._redraw()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Textual's own commands, and every action of this application."""
        yield from super().get_system_commands(screen)
        yield from palette(screen)


def run(paths: Sequence[Path]) -> int:
    """Show the dashboard until the user leaves it; return the exit status."""
    if not sys.stdout.isatty():
        print("mlxdeck tui needs a terminal", file=sys.stderr)  # noqa: T201
        return 2
    app = Dashboard(paths)
    app.run()
    return app.return_code or 0
