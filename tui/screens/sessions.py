"""The sessions: one line a conversation, as the client names them, and the requests of one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Static

from mlxdeck.telemetry.sessions import Rows, Session, sessions
from mlxdeck.telemetry.store import Store
from mlxdeck.tui import format as fmt
from mlxdeck.tui.messages import SessionChosen
from mlxdeck.tui.widgets.request_table import RequestTable
from mlxdeck.tui.widgets.virtual_list import Cell, VirtualList

_TITLES = (
    *(("turns", 6), ("read", 7), ("cached", 7), ("written", 8), ("tools", 6), ("errors", 7)),
    *(("busy", 7), ("length", 7)),
)


class SessionList(VirtualList):
    """The one that was used last comes first."""

    @dataclass
    class Moved(Message):
        """The cursor stands on another one."""

        session: Session

    def __init__(self, found: list[Session], *, id: str | None = None) -> None:
        super().__init__("sessions", id=id)
        self._found = found

    def header(self, width: int) -> list[Cell]:
        """Titles."""
        titles = "".join(f"{title:>{room}}" for title, room in _TITLES)
        return [(f"{'last':<9}{'session':<{_room(width)}}{titles}", "")]

    def cells(self, item: int, width: int) -> list[Cell]:
        """When last, who, and what it came to."""
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
            (f"{fmt.clock(session.last_ts)} ", "muted"),
            (f"{fmt.one_line(session.name or '(unnamed)', room - 1):<{room}}", ""),
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

    def __init__(
        self, store: Store, rows: Rows, current: str = "", as_of_ts: float = math.inf
    ) -> None:
        """The cursor begins on the session whose name is `current`, if it is there.

        What happened later than `as_of_ts` is not shown.
        """
        super().__init__()
        self._store = store
        self._found = sessions(store, rows)
        self._current = current
        self._as_of_ts = as_of_ts

    def compose(self) -> ComposeResult:
        """The list, and below it the requests of the one under the cursor."""
        n_requests = sum(len(session.rows) for session in self._found)
        yield Static(
            f"[b]{len(self._found):,} sessions[/b]  ·  {n_requests:,} requests  ·  "
            "enter filters by one",
            id="title",
        )
        yield SessionList(self._found, id="sessions")
        yield RequestTable(self._store, id="turns")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        listed = self.query_one(SessionList)
        listed.show(np.arange(len(self._found)), 0)
        listed.focus()
        names = [session.name for session in self._found]
        if self._current in names:
            listed.go_to(names.index(self._current))
        if self._found:
            self._show(self._found[listed.item])

    @on(SessionList.Moved)
    def _follow(self, message: SessionList.Moved) -> None:
        self._show(message.session)

    def _show(self, session: Session) -> None:
        turns = self.query_one("#turns", RequestTable)
        turns.border_title = f"requests of {session.name or 'no session'}"
        turns.cursor, turns.as_of_ts = 0, self._as_of_ts
        turns.show(session.rows, session.name)
