"""Which result belongs to which call, also where ids are missing, used twice, or unknown."""

from __future__ import annotations

from collections import deque
from typing import Any


class CallIds:
    """Reads a conversation from its beginning, so that invented ids never change later.

    A result without an id belongs to the first call since the last answer that has no result yet.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._closed: set[str] = set()
        self._by_id: dict[str, deque[str]] = {}
        self._by_name: dict[str, deque[str]] = {}
        self._made_up: deque[str] = deque()
        self._open: deque[str] = deque()
        self._answered = False
        self._n_made = 0
        self.n_matched = 0
        """How many ids had to be made up or found."""

    def call(self, raw: Any, name: str) -> str:
        """The id of a call that the assistant made."""
        if self._answered:
            self._forget()
        told = _told(raw)
        unique = self._unique(told)
        if told:
            self._by_id.setdefault(told, deque()).append(unique)
        else:
            self._made_up.append(unique)
        self._by_name.setdefault(name, deque()).append(unique)
        self._open.append(unique)
        return unique

    def result(self, raw: Any, name: str = "") -> str:
        """The id of the call that a result belongs to."""
        self._answered = True
        told = _told(raw)
        if same := self._by_id.get(told):
            # More results than calls: they are all the last one's.
            found = self._first(same) or same[-1]
        else:
            found = self._first(self._by_name.get(name)) or self._first(self._made_up)
            if not found and not told:
                found = self._first(self._open)
            self.n_matched += bool(found)
        unique = found or told or self._unique("")
        self._closed.add(unique)
        return unique

    def spoke(self) -> None:
        """A message of the user: earlier calls won't get results in order any more."""
        self._answered = True

    def _forget(self) -> None:
        self._answered = False
        self._made_up.clear()
        self._open.clear()
        self._by_name.clear()

    def _first(self, calls: deque[str] | None) -> str:
        while calls and calls[0] in self._closed:
            if len(calls) == 1:
                return ""
            calls.popleft()
        return calls[0] if calls else ""

    def _unique(self, told: str) -> str:
        if told and told not in self._used:
            self._used.add(told)
            return told
        self.n_matched += 1
        self._n_made += 1
        while (unique := f"{told or 'call'}_{self._n_made}") in self._used:
            self._n_made += 1
        self._used.add(unique)
        return unique


def _told(raw: Any) -> str:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return str(raw)
    return raw if isinstance(raw, str) else ""
