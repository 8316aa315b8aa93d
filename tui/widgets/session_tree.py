"""The sessions, a line each; below one that is unfolded stand its agents, as a tree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from textual.binding import Binding
from textual.message import Message

from mlxdeck.telemetry.analyze.group_totals import RequestTotals, Rows
from mlxdeck.telemetry.analyze.sessions import SessionAgent, Sessions
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import SessionChosen
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.virtual_list import Cell, VirtualList, fitting_columns

MIN_NAME = 24
"""Columns give way where the name would have fewer cells."""
_AGENT_BITS = 32


@dataclass(frozen=True, slots=True)
class SessionColumn:
    """A figure of a session or an agent."""

    title: str
    width: int
    keep: int
    """Columns with the lowest number go first when there is no room."""
    cell: Callable[[RequestTotals], Cell]


def _marked(n: int, n_bad: int) -> Cell:
    return (f"{n:,} ✗{n_bad:,}", "bad") if n_bad else (f"{n:,}", "" if n else "muted")


COLUMNS = (
    SessionColumn("turns", 7, 9, lambda each: (f"{each.n_requests:,}", "")),
    SessionColumn("prompt", 7, 7, lambda each: (fmt.count(each.input_tokens), "")),
    SessionColumn("cached", 7, 8, lambda each: (fmt.percent(each.hits.total), "")),
    SessionColumn(
        "missed", 7, 6, lambda each: (f"{each.n_misses:,}", "" if each.n_misses else "muted")
    ),
    SessionColumn("written", 8, 4, lambda each: (fmt.count(each.output_tokens), "")),
    SessionColumn("tools", 9, 5, lambda each: _marked(each.n_tool_calls, each.n_failed_results)),
    SessionColumn(
        "errors",
        7,
        6,
        lambda each: (
            (f"✗{each.n_errors:,}", "bad") if each.n_errors else (f"{each.n_errors:,}", "muted")
        ),
    ),
    SessionColumn("busy", 7, 3, lambda each: (fmt.duration(each.busy_s), "")),
    SessionColumn("length", 7, 2, lambda each: (fmt.duration(each.last_ts - each.first_ts), "")),
)
_TIME_CELLS = 9


@dataclass(frozen=True, slots=True)
class TreeLine:
    """What a line shows: a session, or one of its agents."""

    session: int
    """The number of its name in the store."""
    agent: SessionAgent | None = None

    @property
    def item(self) -> int:
        """A number that stays the same, so that the cursor stays on it."""
        return self.session << _AGENT_BITS | (self.agent.number + 1 if self.agent else 0)


class SessionTree(VirtualList):
    """The one that was used last comes first."""

    BINDINGS = [
        Binding("enter", "choose", "Filter by it"),
        Binding("space", "fold", "Fold", tooltip="Show or hide its agents"),
        Binding("right", "unfold(True)", "Its agents", show=False),
        Binding("left", "unfold(False)", "Without its agents", show=False),
    ]

    @dataclass
    class Moved(Message):
        """The cursor is on another line."""

        line: TreeLine

    def __init__(
        self, store: Store, text_of: Callable[[int], str], *, id: str | None = None
    ) -> None:
        """`text_of` is what a session's user asked first, by the number of the session."""
        super().__init__("sessions", id=id)
        self._store, self._text_of = store, text_of
        self._found: Sessions | None = None
        self._numbers = np.zeros(0, np.int64)
        self._lines: dict[int, TreeLine] = {}
        self._n_agents: dict[int, int] = {}
        self._unfolded: set[int] = set()
        self._day_ts = math.nan
        self._version: object = None
        self._fresh = True

    def show_sessions(self, found: Sessions, numbers: Rows, day_ts: float, version: object) -> None:
        """List these sessions. Times on another day than `day_ts` are shown as a date."""
        self._found, self._numbers, self._day_ts = found, numbers, day_ts
        self._n_agents.clear()
        self._version = version
        if self._fresh and len(numbers):
            # The newest with agents shows what there is to be seen.
            newest = [n for n in numbers[::-1][:20].tolist() if self._agents_of(n)]
            self._unfolded.update(newest[:1])
            self._fresh = False
        self._list()

    def _list(self) -> None:
        """The lines from top to bottom, turned round: a list draws its last item first."""
        assert self._found
        self._lines = {}
        places: list[int] = []
        unfolded = np.flatnonzero(np.isin(self._numbers, list(self._unfolded)))
        for place in unfolded.tolist():
            number = int(self._numbers[place])
            for agent in reversed(self._found.agents(number)):
                line = TreeLine(number, agent)
                self._lines[line.item] = line
                places.append(place)
        items = np.insert(self._numbers << _AGENT_BITS, places, list(self._lines))
        self.show(items, (self._version, tuple(self._numbers[unfolded].tolist())))

    def _agents_of(self, session: int) -> int:
        if session not in self._n_agents and self._found:
            self._n_agents[session] = self._found.n_agents(session)
        return self._n_agents.get(session, 0)

    def line_of(self, item: int) -> TreeLine:
        """The line of an item."""
        return self._lines.get(item) or TreeLine(item >> _AGENT_BITS)

    @property
    def line(self) -> TreeLine | None:
        """The line under the cursor."""
        return self.line_of(self.item) if self.n_items else None

    def header(self, width: int) -> list[Cell]:
        """Titles."""
        columns, room = _fitting(width)
        titles = "".join(f"{each.title:>{each.width}}" for each in columns)
        return [(f"{'last':<{_TIME_CELLS}}{'session and its agents':<{room}}{titles}", "")]

    def cells(self, item: int, width: int) -> list[Cell]:
        """Last use, name, and totals."""
        assert self._found
        line, (columns, room) = self.line_of(item), _fitting(width)
        totals = line.agent.totals if line.agent else self._found.totals(line.session)
        name = (
            self._agent_cells(line.agent, room) if line.agent else self._session_cells(line, room)
        )
        figures = ((each.width, *each.cell(totals)) for each in columns)
        return [
            (f"{fmt.clock(totals.last_ts, self._day_ts)} ", "muted"),
            *name,
            *((f"{text:>{cells}}", kind) for cells, text, kind in figures),
        ]

    def _session_cells(self, line: TreeLine, room: int) -> list[Cell]:
        n_agents = self._agents_of(line.session)
        mark = " " if not n_agents else "▾" if line.session in self._unfolded else "▸"
        name, text = self._store.strings[line.session], self._text_of(line.session)
        count = f" {fmt.counted(n_agents, 'agent')}" if n_agents else ""
        room -= 3
        if len(count) + MIN_NAME // 2 > room:
            count = f" {n_agents}" if n_agents else ""
        room -= len(count)
        if text:
            shown = [(f"{name[:8] or '·':<8} ", "muted"), (fmt.filled(text, room - 9), "")]
        else:
            shown = [(fmt.filled(name or "(unnamed)", room), "")]
        return [(f"{mark} ", "accent"), *shown, (f"{count} ", "accent")]

    def _agent_cells(self, agent: SessionAgent, room: int) -> list[Cell]:
        branch = "  " * max(0, agent.depth - 1) + ("└ " if agent.is_last else "├ ")
        branch = "  " + (branch if agent.depth else "· ")
        name = agent.name or ("main" if not agent.number else agent.id[:12])
        task = f"  {agent.task}" if agent.task else ""
        left = max(0, room - len(branch) - 1)
        shown = fmt.one_line(name, left)
        return [
            (branch, "muted"),
            (shown, ""),
            (fmt.filled(task, left - len(shown)) + " ", "muted"),
        ]

    def _tell_place(self) -> None:
        """The line at the top counts the sessions; here only how to get back."""
        self.tell_subtitle(f"{self.cursor:,} above · g: first" if self.cursor else "")

    def moved(self, item: int) -> None:
        """Its requests are wanted beside it."""
        self.post_message(self.Moved(self.line_of(item)))

    def chosen(self, item: int) -> None:
        """Ask for its requests alone."""
        line = self.line_of(item)
        agent = line.agent.id if line.agent else None
        self.post_message(SessionChosen(self._store.strings[line.session], agent))

    def action_fold(self) -> None:
        """Show the agents of the session under the cursor, or hide them."""
        if line := self.line:
            self.action_unfold(line.session not in self._unfolded)

    def action_unfold(self, wanted: bool) -> None:
        """Show its agents, or hide them; on an agent, the cursor goes to its session."""
        line = self.line
        if line is None or not self._agents_of(line.session):
            return
        if wanted:
            self._unfolded.add(line.session)
        else:
            self.go_to(line.session << _AGENT_BITS)
            self._unfolded.discard(line.session)
        self._list()


def _fitting(width: int) -> tuple[list[SessionColumn], int]:
    """The columns that fit, the least important left out first, and the cells of the name."""
    columns = fitting_columns(COLUMNS, width - _TIME_CELLS - MIN_NAME)
    left = width - _TIME_CELLS - sum(column.width for column in columns)
    return columns, max(9, left)
