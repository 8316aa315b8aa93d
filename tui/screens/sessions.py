"""The sessions as a tree of agents; the turns of one as columns, and its requests as a list."""

from __future__ import annotations

import time
from asyncio import get_running_loop
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.markup import escape
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Input, Static
from textual.worker import get_current_worker

from mlxdeck.telemetry.analyze.group_totals import Rows
from mlxdeck.telemetry.analyze.sessions import Sessions, session_names, user_text
from mlxdeck.telemetry.read.content_search import UserSearch
from mlxdeck.tui.present.misses import misses_in_words
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.request_table import RequestTable
from mlxdeck.tui.widgets.session_tree import SessionTree, TreeLine
from mlxdeck.tui.widgets.turn_strip import COMPUTED, TurnStrip

AT_ONCE = 200_000
"""So many requests are added up before anything is drawn; more of them in parts."""
REST = 9
"""Adding up in parts rests for so many times as long as it took."""
ORDERS = (
    ("", "last used"),
    ("n_requests", "most turns"),
    ("input_tokens", "longest prompts"),
    ("n_misses", "most misses"),
    ("n_errors", "most errors"),
    ("busy_s", "busiest"),
)
HOW_TO_KEEP = "to find what users said: mlxdeck serve --capture full"
MIN_CHARS = 3
"""What users said is searched for at least so much."""
TYPING_S = 0.3
"""A search waits so long for the next key."""


@dataclass
class UserSaid(Message):
    """Requests were found in which the user says a text."""

    text: str
    ids: set[str]
    searches: bool
    """Whether more may be found."""


class TurnTable(RequestTable):
    """Tells where its cursor is."""

    @dataclass
    class RowMoved(Message):
        """The cursor is on another request."""

        row: int

    def moved(self, item: int) -> None:
        """The strip above shows the same one."""
        self.post_message(self.RowMoved(item))


class SessionsScreen(Screen[None]):
    """Choosing one filters the dashboard by it; choosing one of its requests opens that."""

    BINDINGS = [
        Binding("tab", "app.focus_next", "Its turns"),
        Binding("slash", "find", "Find", key_display="/", tooltip="Sessions by name or agent"),
        Binding("o", "order", "Order", tooltip="Newest, longest, most misses first"),
        Binding("escape,s", "leave", "Back"),
    ]

    def __init__(self, context: Context, request: int = -1) -> None:
        """The cursor begins on the session of a request, if there is one."""
        super().__init__()
        self._ctx = context
        self._request = request
        self._version = 0
        self._order = 0
        self._wanted = ""
        self._said = set[str]()
        """Requests in which the user says what is looked for."""
        self._searches = False
        self._found: Sessions | None = None
        self._next: Sessions | None = None
        """Those that are being added up, and how far that is."""
        self._adding: Iterator[None] | None = None
        self._began_s = self._rest_until_s = 0.0
        self._timer: Timer | None = None
        self._asked: dict[int, str] = {}
        """What the user of a session asked first, by the session."""

    def compose(self) -> ComposeResult:
        """The tree, below it the turns of the line under the cursor, and its requests."""
        yield Static(id="title")
        yield Input(id="find")
        yield SessionTree(self._ctx.store, self._text_of, id="sessions")
        yield TurnStrip(self._ctx.store, id="strip")
        yield TurnTable(self._ctx.store, id="turns")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.query_one("#find").display = False
        listed = self.query_one(SessionTree)
        listed.focus()
        self.show_sessions()

    def show_sessions(self) -> None:
        """As they are by now; the cursor stays on its own."""
        ctx, rests_s = self._ctx, self._rest_until_s - time.monotonic()
        if rests_s > 0:
            self._timer = self._timer or self.set_timer(rests_s, self.show_sessions)
        elif self._adding is None:
            self._timer, self._began_s = None, time.monotonic()
            self._next = Sessions(ctx.store, ctx.rows, ctx.as_of_ts)
            self._adding = self._next.parts()
            self._add(at_once=len(self._next.rows) <= AT_ONCE)

    def _add(self, *, at_once: bool = False) -> None:
        """Add up one part after the other, between keys."""
        for _ in self._adding or ():
            if not at_once:
                # Messages that wait would be handled in one go, before the keyboard is looked at.
                get_running_loop().call_soon(self.call_later, self._add)
                return
        self._adding, self._found = None, self._next
        now_s = time.monotonic()
        # Of many requests, news are shown now and then only.
        self._rest_until_s = now_s + REST * (now_s - self._began_s) if not at_once else 0.0
        self._version += 1
        self._list()

    def _list(self) -> None:
        if (found := self._found) is None:
            return
        column, first = ORDERS[self._order]
        numbers = found.by(column) if column else found.numbers
        n_all = len(numbers)
        if self._wanted:
            numbers = numbers[np.isin(numbers, self._matching(found))]
        n_shown = fmt.counted(n_all, "session")
        if self._wanted:
            n_shown = f"{len(numbers):,} of {n_shown}"
        self.query_one("#title", Static).update(
            f"[b]{n_shown}[/b]  ·  {fmt.counted(len(found.rows), 'request')}  ·  {first} first"
        )
        listed = self.query_one(SessionTree)
        none = ["no session has that", *self._how_to_keep]
        none = ["searching…"] if self._searches else none
        listed.empty = none if self._wanted else ["no request is listed"]
        version = (self._version, self._order, self._wanted, len(self._said), self._searches)
        listed.show_sessions(found, numbers, self._ctx.clock.now, version)
        if self._request >= 0:
            session = int(self._ctx.store.column("session")[self._request])
            listed.go_to(TreeLine(session).item)
            self._request = -1
        if line := listed.line:
            self._show_turns(line)
        else:
            self._show_no_turns()

    def _matching(self, found: Sessions) -> Rows:
        """The sessions that have what is looked for in a name, in a task, or in their own words."""
        store, rows = self._ctx.store, found.rows
        said = [row for name in self._said if (row := store.row_of(name)) is not None]
        named = session_names(store, rows, self._wanted)
        return np.concatenate([named, store.column("session")[said]])

    def _text_of(self, session: int) -> str:
        """What its user asked first, as far as that was recorded."""
        if session not in self._asked and self._found:
            self._asked[session] = user_text(self._ctx.store, self._found.first_row(session))
        return self._asked.get(session, "")

    @on(SessionTree.Moved)
    def _follow(self, message: SessionTree.Moved) -> None:
        self._show_turns(message.line)

    @on(TurnStrip.Stepped)
    def _follow_strip(self, message: TurnStrip.Stepped) -> None:
        self.query_one(TurnTable).go_to(message.row)

    @on(TurnTable.RowMoved)
    def _follow_table(self, message: TurnTable.RowMoved) -> None:
        self.query_one(TurnStrip).select(message.row)

    def _show_turns(self, line: TreeLine) -> None:
        assert self._found
        turns, ctx, agent = self.query_one(TurnTable), self._ctx, line.agent
        rows = agent.rows if agent else self._found.rows_of(line.session)
        name = ctx.store.strings[line.session] or "no session"
        if agent:
            name = f"{agent.name or agent.id or 'main'} in {name}"
        title = f"requests of {escape(name)}"
        if turns.tell_title(title):
            turns.cursor = 0
        turns.as_of_ts, turns.now_ts = ctx.as_of_ts, ctx.clock.now
        turns.show(rows, (line.item, self._version))
        strip = self.query_one(TurnStrip)
        missed = misses_in_words(ctx.store, rows, ctx.as_of_ts)
        strip.border_title = (
            f"turns  [$success]█[/] cached  [$primary]{COMPUTED}[/] computed  ·  {missed}"
        )
        strip.show(rows, ctx.as_of_ts, turns.item)

    def _show_no_turns(self) -> None:
        """No session is listed, so those of the last one are of none."""
        turns, strip, none = self.query_one(TurnTable), self.query_one(TurnStrip), np.zeros(0, int)
        turns.tell_title("requests")
        strip.border_title = "turns"
        turns.show(none, (-1, self._version))
        strip.show(none, self._ctx.as_of_ts, -1)

    def action_order(self) -> None:
        """The next order of the sessions."""
        self._order = (self._order + 1) % len(ORDERS)
        self._list()
        self.query_one(SessionTree).action_newest()

    @property
    def _how_to_keep(self) -> list[str]:
        """What to do so that sessions are found by what users said; nothing if they are."""
        return [] if self._ctx.store.servers.keeps_texts else [HOW_TO_KEEP]

    def action_find(self) -> None:
        """Look for sessions."""
        field = self.query_one("#find", Input)
        known = "a session, an agent, its task"
        what = [known] if self._how_to_keep else [f"{known}, what its user said"]
        field.placeholder = "  ·  ".join([*what, *self._how_to_keep])
        field.display = True
        field.focus()

    def action_leave(self) -> None:
        """Show all sessions again, or go back."""
        field = self.query_one("#find", Input)
        if not field.display:
            self.app.pop_screen()
            return
        field.display, field.value = False, ""
        self.query_one(SessionTree).focus()

    @on(Input.Changed, "#find")
    def _find(self, message: Input.Changed) -> None:
        self._wanted = message.value.strip().lower()
        self._said = set()
        self.workers.cancel_group(self, "find")
        self._searches = len(self._wanted) >= MIN_CHARS
        if self._searches:
            self._search(self._wanted)
        self._list()

    @on(Input.Submitted, "#find")
    def _found_it(self) -> None:
        self.query_one(SessionTree).focus()

    @work(thread=True, group="find", exit_on_error=True)
    def _search(self, text: str) -> None:
        """Look through what users said, as far as it was recorded."""
        worker, search, more = get_current_worker(), UserSearch(text), True
        time.sleep(TYPING_S)
        while more and not worker.is_cancelled:
            ids, more = search.look(map(Path, self._ctx.source.following))
            if not worker.is_cancelled and (ids or not more):
                self.post_message(UserSaid(text, ids, more))

    @on(UserSaid)
    def _note_said(self, message: UserSaid) -> None:
        if message.text == self._wanted:
            self._said |= message.ids
            self._searches = message.searches
            self._list()
