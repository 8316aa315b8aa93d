"""What filters look at: the columns of requests, of all or of some as of a moment."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.columns.record_batch import KINDS, TEXT_NUMBER
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import FIGURES, UNKNOWN_NUMBER, told_by
from mlxdeck.telemetry.store.string_table import StringTable, TextTest

COLUMNS: dict[str, tuple[Any, float]] = {
    "start_ts": (np.float64, np.nan),
    "end_ts": (np.float64, np.nan),
    **{figure.name: (KINDS[figure.kind], figure.unknown) for figure in FIGURES},
    **dict.fromkeys(("session", "tools", "file"), (TEXT_NUMBER, 0)),
    "shared_tokens": (np.int32, UNKNOWN_NUMBER),
    "first_offset": (np.uint32, 0),
    "last_offset": (np.uint32, 0),
}
"""Type of each column at first, and the value for a request with only a first line."""
KNOWN_EARLY = {"start_ts", "session", "file", *(each.name for each in told_by(t.RequestStart))}
"""Columns that are known before a request ends."""


class Table(Protocol):
    """The rows that filters look at: a store, or some of its rows as of a moment."""

    strings: StringTable

    @property
    def n(self) -> int:
        """How many rows there are."""

    def column(self, name: str) -> GrowableArray:
        """One column over all rows."""

    def names(self) -> GrowableArray:
        """The requests' ids over all rows, as UTF-8."""

    def session_starts(self) -> GrowableArray:
        """For each row whether it is the first request of its session."""

    def states(self, now_ts: float) -> GrowableArray:
        """For each row its last state up to a moment, as a place in `STATES`, while it runs."""

    def saying(self, text: str) -> GrowableArray:
        """For each row whether it says a text, as far as that was searched for."""

    def called_with(self, pattern: TextTest, part: str) -> GrowableArray:
        """For each row whether a pattern is true of a call's arguments, as far as they are kept.

        With `part`, it is true of just the texts that hold this one, which is in lower case.
        """


class SomeRows:
    """Some rows of a store."""

    def __init__(self, store: Table, rows: GrowableArray) -> None:
        self._store = store
        self._rows = rows
        self.strings = store.strings
        self.n = len(rows)

    def column(self, name: str) -> GrowableArray:
        """Their values."""
        found: GrowableArray = self._store.column(name)[self._rows]
        return found

    def names(self) -> GrowableArray:
        """Their ids."""
        found: GrowableArray = self._store.names()[self._rows]
        return found

    def session_starts(self) -> GrowableArray:
        """Which of them are the first of all in their session."""
        found: GrowableArray = self._store.session_starts()[self._rows]
        return found

    def states(self, now_ts: float) -> GrowableArray:
        """Their states."""
        found: GrowableArray = self._store.states(now_ts)[self._rows]
        return found

    def saying(self, text: str) -> GrowableArray:
        """Which of them say it."""
        found: GrowableArray = self._store.saying(text)[self._rows]
        return found

    def called_with(self, pattern: TextTest, part: str) -> GrowableArray:
        """Which of them called a tool so."""
        found: GrowableArray = self._store.called_with(pattern, part)[self._rows]
        return found


class RunningRows(SomeRows):
    """Rows of a store without what their end has filled in."""

    def column(self, name: str) -> GrowableArray:
        """The value at the request's start; a later value counts as unknown."""
        if name in KNOWN_EARLY:
            return super().column(name)
        kind, fill = COLUMNS[name]
        return np.full(self.n, fill, kind)

    def saying(self, text: str) -> GrowableArray:
        """None: captured content of a running request counts as unknown."""
        return np.zeros(self.n, bool)

    def called_with(self, pattern: TextTest, part: str) -> GrowableArray:
        """None: calls come with the end."""
        return np.zeros(self.n, bool)
