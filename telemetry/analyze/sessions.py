"""Requests grouped by the client's conversation, and in it by agent. Pure: over a store."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.group_totals import GroupTotals, RequestTotals, Rows
from mlxdeck.telemetry.analyze.raw_lines import lines_of
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema.events import RequestStart
from mlxdeck.telemetry.schema.figures import ERROR
from mlxdeck.telemetry.store.store import Store

PART = 1 << 15
"""So many requests are added up without a pause."""


class Sessions:
    """Totals of the sessions of some requests, by the numbers of their names in the store."""

    def __init__(self, store: Store, rows: Rows, as_of_ts: float = math.inf) -> None:
        """Of a request that ended after `as_of_ts`, only its start counts."""
        self._store, self._as_of_ts = store, as_of_ts
        self.rows = rows
        self._sessions = store.column("session")[rows]
        self._totals = GroupTotals(len(store.strings))
        self._has_agents = np.zeros(len(store.strings), bool)

    def parts(self) -> Iterator[None]:
        """Add all up, a part at a time."""
        for begin in range(0, len(self.rows), PART):
            part = slice(begin, begin + PART)
            rows, sessions = self.rows[part], self._sessions[part]
            self._totals.add(self._store, rows, sessions, self._as_of_ts)
            self._has_agents[sessions[self._store.column("agent")[rows] > 0]] = True
            yield

    @property
    def numbers(self) -> Rows:
        """Of all sessions, the one that was used last at the end."""
        found = np.flatnonzero(self._totals.sums("n_requests"))
        return found[np.argsort(self._totals.last_ts[found], kind="stable")]

    def by(self, name: str) -> Rows:
        """The same, the one with the most of a figure at the end."""
        numbers = self.numbers
        return numbers[np.argsort(self._totals.sums(name)[numbers], kind="stable")]

    def totals(self, number: int) -> RequestTotals:
        """Of one session."""
        return self._totals.of(number)

    def n_agents(self, number: int) -> int:
        """How many agents its main one has started, as far as the client names them."""
        if not self._has_agents[number]:
            return 0
        agents = self._store.column("agent")[self.rows[self._sessions == number]]
        return len(np.unique(agents[agents > 0]))

    def rows_of(self, number: int) -> Rows:
        """Its requests, oldest first."""
        own = self.rows[self._sessions == number]
        starts = self._store.column("start_ts")[own]
        if np.all(starts[1:] >= starts[:-1]):
            # As they usually are; to sort a million takes longer than a key may.
            return np.asarray(own)
        return np.asarray(own[np.argsort(starts, kind="stable")])

    def first_row(self, number: int) -> int:
        """Its oldest request."""
        return int(self._totals.first_rows[number])

    def agents(self, number: int) -> list[SessionAgent]:
        """Its agents as a tree: each is followed by those that it has started."""
        return agents(self._store, self.rows_of(number), self._as_of_ts)


def sessions(store: Store, rows: Rows, as_of_ts: float = math.inf) -> Sessions:
    """The sessions of some requests, added up at once."""
    found = Sessions(store, rows, as_of_ts)
    for _ in found.parts():
        pass
    return found


@dataclass(frozen=True, slots=True)
class SessionAgent:
    """One agent of a session."""

    number: int
    """Of its id in the store; 0 for the main one, which has none."""
    id: str
    name: str
    """Its kind, as `Explore`; empty if that is not known."""
    task: str
    depth: int
    """How many agents are above it."""
    is_last: bool
    """Whether no other one follows that was started by the same agent."""
    totals: RequestTotals
    rows: Rows
    """Its requests, oldest first."""


def agents(store: Store, rows: Rows, as_of_ts: float = math.inf) -> list[SessionAgent]:
    """The agents of a session's requests, oldest first below the one that started them."""
    numbers, groups = np.unique(store.column("agent")[rows], return_inverse=True)
    totals = GroupTotals(len(numbers))
    totals.add(store, rows, groups, as_of_ts)
    places = {int(numbers[place]): place for place in np.argsort(totals.first_ts, kind="stable")}
    own = {number: rows[groups == place] for number, place in places.items()}
    found = []
    for number, depth, is_last in _in_order(own, _parents(store, own)):
        name, task = (
            store.strings[_last(store, each, own[number])] for each in ("agent_name", "agent_task")
        )
        id_, total = store.strings[number] if number else "", totals.of(places[number])
        found.append(SessionAgent(number, id_, name, task, depth, is_last, total, own[number]))
    return found


def _parents(store: Store, own: Mapping[int, Rows]) -> dict[int, int]:
    """The agent that started each; the main one where that one is not known."""
    told = {number: _last(store, "parent_agent", rows) for number, rows in own.items() if number}
    return {number: parent if parent in own else 0 for number, parent in told.items()}


def _in_order(
    numbers: Collection[int], parents: Mapping[int, int]
) -> Iterator[tuple[int, int, bool]]:
    """Each agent, how deep it stands, and whether it is the last one there."""
    below: dict[int, list[int]] = {}
    for number, parent in parents.items():
        below.setdefault(parent, []).append(number)
    listed = set[int]()
    # Also those that say that they started one another, which nothing leads to.
    for first in (0, *numbers):
        stack = [(first, 1 if first else 0, True)]
        while stack:
            number, depth, is_last = stack.pop()
            if number in listed:
                continue
            listed.add(number)
            if number in numbers:
                yield number, depth, is_last
            started = below.get(number, [])
            stack += [(each, depth + 1, each == started[-1]) for each in reversed(started)]


def _last(store: Store, name: str, rows: Rows) -> int:
    """The last text of a column that is not empty, by its number; 0 if there is none."""
    numbers = store.column(name)[rows]
    told = np.flatnonzero(numbers)
    return int(numbers[told[-1]]) if len(told) else 0


_NAMES = ("session", "agent", "agent_name", "agent_task")


def session_names(store: Store, rows: Rows, text: str) -> Rows:
    """Numbers of the sessions with a text in their name, or in that or the task of an agent."""
    found = np.zeros(len(rows), bool)
    for name in _NAMES:
        column = store.column(name)[rows]
        there = np.flatnonzero(np.bincount(column)).tolist() if len(rows) else []
        has = np.zeros(len(store.strings), bool)
        has[[number for number in there if text.lower() in store.strings[number].lower()]] = True
        found |= has[column]
    return np.asarray(np.unique(store.column("session")[rows[found]]))


def user_text(store: Store, row: int) -> str:
    """What the user said last in a request, where the server records it. Reads the file."""
    told = (codec.decode(raw).attrs for raw in lines_of(store, row))
    return next((each.last_user_text for each in told if isinstance(each, RequestStart)), "")


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Requests that failed in the same way."""

    kind: str
    n: int
    last_row: int
    last_ts: float


def error_groups(store: Store, rows: Rows) -> list[ErrorGroup]:
    """The failures among some requests by type, the latest at the end."""
    failed = rows[store.column("outcome")[rows] == ERROR]
    kinds = store.column("error_type")[failed]
    groups = []
    for kind in np.unique(kinds):
        own = failed[kinds == kind]
        last = own[int(np.argmax(store.column("end_ts")[own]))]
        last_ts = float(store.column("end_ts")[last])
        groups.append(ErrorGroup(store.strings[int(kind)], len(own), int(last), last_ts))
    return sorted(groups, key=lambda group: group.last_ts)
