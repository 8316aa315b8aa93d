"""Requests of several servers that have one id: kept apart by who wrote them, or told."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from mlxdeck.telemetry.columns.column_set import ColumnSet
from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.columns.heard import HeardProcess
from mlxdeck.telemetry.columns.record_batch import Requests
from mlxdeck.telemetry.store.id_index import IdIndex

SAME_S = 1e-3
"""Two beginnings of one request are no further apart: its lines are read again."""


class SharedIds:
    """Finds the rows of requests by their ids. For the store's thread."""

    def __init__(self, ids: IdIndex, columns: ColumnSet) -> None:
        self._ids = ids
        self._columns = columns
        self._writers: dict[int, set[int]] = {}
        """The processes that wrote each file, by the number of its name."""
        self._written: dict[int, str] = {}
        """By the row of a request that got another id, the one that its lines have."""
        self.mixed: set[int] = set()
        """Rows in which several requests are counted as one."""

    def written(self, row: int) -> str:
        """The id of a request as its lines have it."""
        return self._written.get(row) or self._ids[row]

    def heard(self, file: int, told: Iterable[HeardProcess]) -> None:
        """Processes wrote lines of a file."""
        self._writers.setdefault(file, set()).update(each.pid for each in told)

    def rows(self, requests: Requests, begun: Collection[int]) -> GrowableArray:
        """The rows of some requests, new ones for those that are not known.

        `begun` are the places of those whose first line is among theirs.
        """
        n_before = self._ids.n
        rows: GrowableArray = self._ids.numbers(requests.names)
        for place in np.flatnonzero(rows < n_before).tolist():
            row, pid = int(rows[place]), int(requests.pids[place])
            if pid not in self._writers[int(self._columns["file"][row])]:
                name = requests.names[place : place + 1]
                rows[place] = own = int(self._ids.numbers(np.char.add(name, b"~%d" % pid))[0])
                self._written[own] = name[0].decode("utf-8", "replace")
            elif place in begun and self._has_begun_elsewhere(row, requests.begun_ts[place]):
                self.mixed.add(row)
        return rows

    def _has_begun_elsewhere(self, row: int, begun_ts: float) -> bool:
        at_s = begun_ts - self._columns["start_ts"][row]
        return bool(abs(at_s) > SAME_S and self._columns["model"][row])
