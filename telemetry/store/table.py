"""What filters look at: the columns of requests, of all or of some as of a moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.columns.record_batch import KINDS
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import FIGURES, UNKNOWN_NUMBER, told_by
from mlxdeck.telemetry.store.bounded_history import ToolCallRow
from mlxdeck.telemetry.store.string_table import StringTable

COLUMNS: dict[str, tuple[Any, float]] = {
    "start_ts": (np.float64, np.nan),
    "end_ts": (np.float64, np.nan),
    **{figure.name: (KINDS[figure.kind], figure.unknown) for figure in FIGURES},
    **dict.fromkeys(("session", "tools", "file"), (np.int32, 0)),
    "shared_tokens": (np.int32, UNKNOWN_NUMBER),
    "first_offset": (np.int64, 0),
    "last_offset": (np.int64, 0),
}
"""Type of each column, and the value for a request with only a first line."""
KNOWN_EARLY = {"start_ts", "session", "file", *(each.name for each in told_by(t.RequestStart))}
"""Columns that are known before a request ends."""


class Table(Protocol):
    """The rows that filters look at: a store, or some of its rows as of a moment."""

    strings: StringTable

    @property
    def tool_calls(self) -> Sequence[ToolCallRow]:
        """Their tool calls, as far as they are kept."""

    @property
    def n(self) -> int:
        """How many rows there are."""

    def column(self, name: str) -> GrowableArray:
        """One column over all rows."""

    def names(self) -> GrowableArray:
        """The requests' ids over all rows, as UTF-8."""

    def saying(self, text: str) -> GrowableArray:
        """For each row whether it says a text, as far as that was searched for."""


class RunningRows:
    """Rows of a store without what their end has filled in."""

    def __init__(self, store: Table, rows: GrowableArray) -> None:
        self._store = store
        self._rows = rows
        self.strings = store.strings
        self.tool_calls: Sequence[ToolCallRow] = ()
        self.n = len(rows)

    def column(self, name: str) -> GrowableArray:
        """The value at the request's start; a later value counts as unknown."""
        if name in KNOWN_EARLY:
            return self._store.column(name)[self._rows]
        kind, fill = COLUMNS[name]
        return np.full(self.n, fill, kind)

    def names(self) -> GrowableArray:
        """Their ids."""
        return self._store.names()[self._rows]

    def saying(self, text: str) -> GrowableArray:
        """None: captured content of a running request counts as unknown."""
        return np.zeros(self.n, bool)
