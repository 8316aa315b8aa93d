"""The dashboard: reads streams on a separate thread, keeps the store, and shows it.

All state changes happen here, in handlers on the event loop. The reading thread only posts
messages. `redrawing.py` says when the screen is drawn; that is only where it changed. Everything is
drawn as of the clock's time; this is the only difference between live and replay.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from textual import constants, on, work
from textual.app import SystemCommand
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input
from textual.worker import get_current_worker

from mlxdeck.telemetry.alerts.deliveries import Delivery
from mlxdeck.telemetry.alerts.hooks import AlertHooks
from mlxdeck.telemetry.alerts.stream_alarm import StreamAlarm
from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.analyze.stats import WINDOWS
from mlxdeck.telemetry.analyze.time_series import PART_ROWS
from mlxdeck.telemetry.playback_clock import PlaybackClock
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.command_palette import kept_filters, palette
from mlxdeck.tui.leaving import Leaving
from mlxdeck.tui.messages import (
    BatchArrived,
    FilterChanged,
    HookFailed,
    PreferencesChanged,
    RedrawAsked,
    RequestChosen,
    Searched,
    SearchedAll,
    SessionChosen,
    SourceChanged,
)
from mlxdeck.tui.present import status_line
from mlxdeck.tui.redrawing import Redrawing
from mlxdeck.tui.replay import REPLAY_ACTIONS, Replaying
from mlxdeck.tui.screens.compare import CompareScreen
from mlxdeck.tui.screens.dashboard import DashboardScreen
from mlxdeck.tui.screens.help import HelpScreen
from mlxdeck.tui.screens.problems import ProblemsScreen
from mlxdeck.tui.screens.request import RequestScreen
from mlxdeck.tui.screens.sessions import SessionsScreen
from mlxdeck.tui.state.beside import Beside
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.state.preferences import recall, remember
from mlxdeck.tui.state.request_query import RequestQuery
from mlxdeck.tui.themes import THEME_NAMES
from mlxdeck.tui.widgets.request_table import RequestTable
from mlxdeck.tui.widgets.transport import Transport
from mlxdeck.tui.workers.search_worker import TYPING_S, search
from mlxdeck.tui.workers.tail_worker import follow

_DASHBOARD_ACTIONS = {"window", "pause", "newest", "sessions", "problems"}


class Dashboard(Redrawing, Replaying, Leaving):
    """Shows a telemetry stream, live or as a replay."""

    TITLE = "mlxdeck"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal"), (180, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (14, "-tiny"), (20, "-short"), (30, "-tall")]
    BINDINGS = [
        Binding("w", "window", "Window", tooltip="Next window: 1m, 5m, 15m, 1h, all"),
        Binding("space", "pause", "Pause", tooltip="Pause or resume the view; data keeps arriving"),
        Binding("s", "sessions", "Sessions", tooltip="Requests grouped by conversation"),
        Binding("x", "problems", "Bad lines", show=False, tooltip="What could not be read"),
        Binding("d", "dark", "Theme", show=False, tooltip="Dark, light or high contrast"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="These keys"),
        Binding("q", "quit", "Quit", tooltip="Leave"),
        Binding("ctrl+q", "quit", "Quit", tooltip="Leave", show=False, priority=True),
    ]

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        clock: Callable[[], float] = time.time,
        window: str = "",
        replay: bool = False,
        speed: float = 1.0,
        limits: Thresholds | None = None,
        ways: Sequence[Delivery] = (),
        memory: Path | None = None,
        whole_folders: bool = False,
        beside: Beside = Beside(),  # noqa: B008 - it is frozen
    ) -> None:
        """`memory` is the file of the user's preferences; None keeps no preferences.

        `ways` are told of alerts, but not of those of a replay.

        `whole_folders`: not only the newest stream; a replay reads all anyway.
        """
        super().__init__()
        self._memory = memory
        self._whole_folders = whole_folders or replay
        is_told = bool(ways) and not replay
        self._hooks = AlertHooks(ways, self._tell_of_hooks) if is_told else None
        store, kept = Store(), recall(memory)
        labels = {each.label: each for each in WINDOWS}
        self.context = Context(
            list(paths),
            store,
            PlaybackClock(clock, replay=replay, speed=speed),
            RequestQuery(store, kept.kept, lambda: self.context.clock.now),
            StreamAlarm(limits or Thresholds(), self._hooks),
            kept,
            labels.get(window or kept.window, WINDOWS[1]),
            beside=beside,
        )
        self.count_running = beside.count_running
        self._dashboard = DashboardScreen(self.context)
        self._asked = False
        """Whether a view that is held is to be drawn anyway."""
        self._sought = frozenset[str]()

    @property
    def store(self) -> Store:
        """All that has been read."""
        return self.context.store

    def on_mount(self) -> None:
        theme = self.context.ways.theme
        self.theme = theme if theme in self.available_themes else THEME_NAMES[0]
        self.push_screen(self._dashboard)
        self._read()
        self.watch_terminal()
        for note in self.context.beside.notes:
            self.notify(note, severity="warning", timeout=15, markup=False)
        if self.context.beside.unrecorded:
            # Streams of earlier servers may fill the screen.
            self.notify("Telemetry is off: nothing new appears here", severity="warning")

    def on_unmount(self) -> None:
        ways = self.context.ways
        ways.window, ways.theme = self.context.window.label, self.theme
        remember(self._memory, ways)
        if self._hooks:
            self._hooks.close()

    @work(thread=True, exit_on_error=True)
    def _read(self) -> None:
        follow(self, self.context, get_current_worker(), whole_folders=self._whole_folders)

    @on(BatchArrived)
    def _take(self, message: BatchArrived) -> None:
        store = self.store
        store.feed([message.batch])
        self.context.clock.bounds(store.first_ts, store.last_ts, store.by_end.first_ts)
        self._stale = True
        self.redraw()

    @on(SourceChanged)
    def _note_source(self, message: SourceChanged) -> None:
        for note in message.notes:
            if note not in self.context.source.notes:
                self.notify(note, severity="warning", markup=False)
        if message.loaded >= 1 > self.context.source.loaded:
            self._parts = None  # They are of a moment when less was known.
            if self.store.n > PART_ROWS:
                settle_memory()
        self.store.lose_processes(message.gone)
        self.context.source = message
        self._stale = True
        self.redraw()

    def _tell_of_hooks(self, text: str) -> None:
        """Called on the hooks' thread."""
        self.post_message(HookFailed(text))

    @on(HookFailed)
    def _note_failure(self, message: HookFailed) -> None:
        self.notify(message.text, title="! alert not delivered", severity="error", markup=False)

    @on(RequestChosen)
    def _open(self, message: RequestChosen) -> None:
        if message.against >= 0:
            self.push_screen(CompareScreen(self.context, message.against, message.row))
        elif not isinstance(self.screen, RequestScreen):
            # The second one of two fast clicks finds it open.
            self.push_screen(RequestScreen(self.context, message.row))

    @on(SessionChosen)
    def _filter_by_session(self, message: SessionChosen) -> None:
        if isinstance(self.screen, SessionsScreen):
            self.pop_screen()
            self.filter_by(message.filter)

    @on(PreferencesChanged)
    def _remember(self) -> None:
        remember(self._memory, self.context.ways)

    def _forget(self, name: str) -> None:
        """A filter that was kept is not wanted any more."""
        del self.context.ways.kept[name]
        self._remember()
        self.notify(f"@{name} is forgotten", timeout=3)

    @on(FilterChanged)
    def _filter(self, message: FilterChanged) -> None:
        self.filter_by(message.text, typed_at=message.typed_at)

    @on(RedrawAsked)
    @on(Transport.Toggled)
    def _on_asked(self, message: Message) -> None:
        if isinstance(message, Transport.Toggled):
            self.action_pause()
        self.redraw_now()

    def filter_by(self, text: str, *, typed_at: int = -1) -> None:
        """Show the matching requests; while it is typed, those of what is finished.

        With a mistake in `text`, keep the old filter and show the mistake.
        """
        screen, listing = self.screen, self.context.listing
        if isinstance(screen, DashboardScreen):
            screen.filter_by(text, typed_at)
        self._look_for(listing.said, 0.0 if typed_at < 0 else TYPING_S)
        if typed_at < 0 and listing.text:
            self.context.ways.used(listing.text)
        self.redraw_now()

    def _look_for(self, texts: frozenset[str], after_s: float) -> None:
        if texts != self._sought:
            self._sought = self.context.sought = texts
            self.workers.cancel_group(self, "search")
            self.store.forget_said(texts)
            if texts:
                self._search(texts, after_s)

    @work(thread=True, group="search", exit_on_error=True)
    def _search(self, texts: frozenset[str], after_s: float) -> None:
        context, worker = self.context, get_current_worker()
        search(self, texts, lambda: [*map(Path, context.source.following)], worker, after_s)

    @on(Searched)
    def _note_found(self, message: Searched) -> None:
        self.store.note_said(message.text, message.ids)
        self.context.listing.look_again()
        self._stale = True
        self.redraw()

    @on(SearchedAll)
    def _note_searched(self, message: SearchedAll) -> None:
        if message.texts == self._sought:
            self.context.sought = frozenset()
            # A paused view is drawn only on request.
            self.redraw_now()

    def _drawing(self, now_s: float) -> Iterator[None]:
        clock, screen = self.context.clock, self.screen
        # A view that is held doesn't hold its alerts.
        if self.context.source.loaded >= 1:
            yield from self._dashboard.adding_up(clock.unheld)
        for alert in self._dashboard.alerts(clock.unheld):
            self.notify(alert.text, title=f"! {alert.title}", severity="warning", markup=False)
        yield
        # What comes from here on is drawn the next time.
        is_stale, self._stale = self._stale, False
        if isinstance(screen, DashboardScreen) and screen.is_mounted:
            asked, self._asked = self._asked, False
            if clock.replay or not clock.paused:
                yield from screen.drawing(now_s)
            elif asked:
                yield from screen.drawing(now_s, below=self.context.n_held)
            screen.show_status(status_line.parts(self.context))
        elif isinstance(screen, RequestScreen):
            screen.refresh_row()
        elif isinstance(screen, SessionsScreen) and is_stale:
            screen.show_sessions()

    def action_window(self) -> None:
        """The next window."""
        following = WINDOWS.index(self.context.window) + 1
        self.context.window = WINDOWS[following % len(WINDOWS)]
        self.redraw_now()

    def action_pause(self) -> None:
        """Pause or resume the view; data keeps arriving in both cases."""
        self.context.n_held = self.store.n
        self.context.clock.toggle()
        self.redraw_now()

    def action_sessions(self) -> None:
        """Show the sessions of the listed requests."""
        table = self.screen.query_one(RequestTable)
        self.push_screen(SessionsScreen(self.context, table.item))

    def action_problems(self) -> None:
        """What could not be read."""
        self.push_screen(ProblemsScreen(self.context))

    def action_newest(self) -> None:
        """Go to the newest request, and follow."""
        for table in self.screen.query(RequestTable):
            table.action_newest()

    def action_help(self) -> None:
        """Show the keys of the current screen."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Some actions are for the dashboard alone, some for replays."""
        if action in ("go_start", "go_end") and isinstance(self.focused, Input):
            # There they move in the text.
            return False
        return self._allowed(action, self.screen)

    def _allowed(self, action: str, screen: Screen[object]) -> bool:
        if action in REPLAY_ACTIONS and not self.context.clock.replay:
            return False
        if action in _DASHBOARD_ACTIONS or action in REPLAY_ACTIONS:
            return isinstance(screen, DashboardScreen)
        return True

    def redraw_now(self) -> None:
        """Draw at the next opportunity, even if nothing changed, and the view is held."""
        self._asked = True
        super().redraw_now()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Textual's own commands, and every action of this application."""
        yield from super().get_system_commands(screen)
        yield from palette(screen, lambda action: self._allowed(action, screen))
        yield from kept_filters(self.context.ways.kept, self.filter_by, self._forget)


def settle_memory() -> None:
    """Spare the garbage collector what stays: it looked through that for 60 ms at a time."""
    gc.freeze()


def run(app: Dashboard) -> int:
    """Show the dashboard until the user leaves it; return the exit status."""
    # In a browser there is no terminal: the driver replaces it.
    if not sys.stdout.isatty() and not constants.DRIVER:
        print("mlxdeck: the dashboard needs a terminal", file=sys.stderr)  # noqa: T201
        return 2
    settle_memory()
    app.run()
    return app.return_code or 0
