"""The sessions: one line a conversation, as the client names them, and the requests of one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.markup import escape
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Static

from mlxdeck.telemetry.analyze.sessions import Session, sessions
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import SessionChosen
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.request_table import RequestTable
from mlxdeck.tui.widgets.virtual_list import Cell, VirtualList

_TITLES = (
    *(("turns", 6), ("prompt", 7), ("cached", 7), ("written", 8), ("tools", 6), ("errors", 7)),
    *(("busy", 7), ("length", 7)),
)


class SessionList(VirtualList):
    """The one that was used last comes first."""

    BINDINGS = [Binding("enter", "choose", "Filter by it")]

    @dataclass
    class Moved(Message):
        """The cursor is on another session."""

        session: Session

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("sessions", id=id)
        self._found: dict[int, Session] = {}
        """By the number of its name in the store, so that the cursor stays on it."""
        self._day_ts = math.nan

    def show_sessions(
        self, found: list[Session], store: Store, day_ts: float, version: object
    ) -> None:
        """List these sessions. Times on another day than `day_ts` are shown as a date."""
        numbers = [int(store.column("session")[each.rows[0]]) for each in found]
        self._found = dict(zip(numbers, found, strict=True))
        self._day_ts = day_ts
        self.show(np.array(numbers, np.int64), version)

    @property
    def session(self) -> Session | None:
        """The one under the cursor."""
        return self._found.get(self.item)

    def header(self, width: int) -> list[Cell]:
        """Titles."""
        titles = "".join(f"{title:>{room}}" for title, room in _TITLES)
        return [(f"{'last':<9}{'session':<{_room(width)}}{titles}", "")]

    def cells(self, item: int, width: int) -> list[Cell]:
        """Last use, name, and totals of a session."""
        session, room = self._found[item], _room(width)
        texts = (
            f"{len(session.rows):,}",
            fmt.count(session.input_tokens),
            fmt.percent(session.hits.total),
            fmt.count(session.output_tokens),
            f"{session.n_tool_calls:,}",
            f"{session.n_errors:,}" + ("!" if session.n_errors else ""),
            fmt.duration(session.busy_s),
            fmt.duration(session.last_ts - session.first_ts),
        )
        return [
            (f"{fmt.clock(session.last_ts, self._day_ts)} ", "muted"),
            (fmt.filled(session.name or "(unnamed)", room - 1) + " ", ""),
            *(
                (f"{text:>{cells}}", "bad" if title == "errors" and session.n_errors else "")
                for text, (title, cells) in zip(texts, _TITLES, strict=True)
            ),
        ]

    def moved(self, item: int) -> None:
        """Its requests are wanted beside it."""
        self.post_message(self.Moved(self._found[item]))

    def chosen(self, item: int) -> None:
        """Ask for its requests alone."""
        self.post_message(SessionChosen(self._found[item].name))


def _room(width: int) -> int:
    return max(9, min(38, width - 9 - sum(room for _, room in _TITLES)))


class SessionsScreen(Screen[None]):
    """Choosing one filters the dashboard by it; choosing one of its requests opens that."""

    BINDINGS = [
        Binding("tab", "app.focus_next", "Its requests"),
        Binding("escape,s", "app.pop_screen", "Back"),
    ]

    def __init__(self, context: Context, request: int = -1) -> None:
        """The cursor begins on the session of a request, if there is one."""
        super().__init__()
        self._ctx = context
        self._request = request
        self._version = 0

    def compose(self) -> ComposeResult:
        """The list, and below it the requests of the one under the cursor."""
        yield Static(id="title")
        yield SessionList(id="sessions")
        yield RequestTable(self._ctx.store, id="turns")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        listed = self.query_one(SessionList)
        listed.focus()
        self.show_sessions()
        if self._request >= 0:
            listed.go_to(int(self._ctx.store.column("session")[self._request]))

    def show_sessions(self) -> None:
        """As they are by now; the cursor stays on its own."""
        rows, listed = self._ctx.rows, self.query_one(SessionList)
        found = sessions(self._ctx.store, rows, self._ctx.as_of_ts)
        self._version += 1
        self.query_one("#title", Static).update(
            f"[b]{fmt.counted(len(found), 'session')}[/b]  ·  "
            f"{fmt.counted(len(rows), 'request')}  ·  enter filters by one"
        )
        listed.show_sessions(found, self._ctx.store, self._ctx.clock.now, self._version)
        if session := listed.session:
            self._show_turns(session)

    @on(SessionList.Moved)
    def _follow(self, message: SessionList.Moved) -> None:
        self._show_turns(message.session)

    def _show_turns(self, session: Session) -> None:
        turns, ctx = self.query_one("#turns", RequestTable), self._ctx
        title = f"requests of {escape(session.name) or 'no session'}"
        if turns.border_title != title:
            turns.border_title, turns.cursor = title, 0
        turns.as_of_ts, turns.now_ts = ctx.as_of_ts, ctx.clock.now
        turns.show(session.rows, (session.name, self._version))
