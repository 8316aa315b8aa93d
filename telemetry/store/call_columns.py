"""Every tool call in a few bytes: whose it is, which tool, in which format, what was wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mlxdeck.telemetry.columns.column_set import ColumnSet
from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.columns.record_batch import TEXT_NUMBER

_KINDS = {
    "rows": (np.int32, 0),
    **dict.fromkeys(("names", "parsers"), (TEXT_NUMBER, 0)),
    "faults": (np.uint8, 0),
    "argument_bytes": (np.float32, 0),
}
_ANSWERED = {
    "result_ts": (np.float64, np.nan),
    "failed": (np.bool_, 0),
    "elapsed_s": (np.float32, np.nan),
}
"""Of a call's result; the moment and the seconds are NaN where none is known."""


class CallColumns:
    """All calls in the order in which they came. For one thread."""

    def __init__(self) -> None:
        self._columns = ColumnSet(_KINDS | _ANSWERED)
        self.n_answered = 0
        self.answered_ts = -math.inf
        """When the latest result came."""

    def __len__(self) -> int:
        return self._columns.n

    def add(
        self,
        rows: GrowableArray,
        names: GrowableArray,
        parsers: GrowableArray,
        faults: GrowableArray,
        argument_bytes: GrowableArray,
    ) -> None:
        """More of them; names and parsers by their numbers."""
        new = slice(len(self), len(self) + len(rows))
        self._columns.grow(new.stop)
        told = (rows, names, parsers, faults, argument_bytes)
        for name, values in zip(_KINDS, told, strict=True):
            self._columns.put(name, new, values)

    def answer(
        self,
        numbers: Sequence[int],
        ts: GrowableArray | Sequence[float],
        failed: GrowableArray | Sequence[bool],
        elapsed_s: GrowableArray | Sequence[float],
    ) -> None:
        """The results of some calls have come, not none."""
        self.n_answered += len(numbers)
        self.answered_ts = max(self.answered_ts, *ts)
        for name, values in zip(_ANSWERED, (ts, failed, elapsed_s), strict=True):
            self._columns.put(name, numbers, values)

    @property
    def rows(self) -> GrowableArray:
        """The request of each. A view, as all below."""
        return self._columns["rows"]

    @property
    def names(self) -> GrowableArray:
        """The number of its tool's name among the store's texts."""
        return self._columns["names"]

    @property
    def parsers(self) -> GrowableArray:
        """The number of the format's name."""
        return self._columns["parsers"]

    @property
    def faults(self) -> GrowableArray:
        """As `record_batch.Calls` has them."""
        return self._columns["faults"]

    @property
    def argument_bytes(self) -> GrowableArray:
        """Size of its arguments; 0 if it is not known."""
        return self._columns["argument_bytes"]

    @property
    def result_ts(self) -> GrowableArray:
        """When a request brought the result; NaN if none has."""
        return self._columns["result_ts"]

    @property
    def failed(self) -> GrowableArray:
        """Whether its client says that it failed."""
        return self._columns["failed"]

    @property
    def elapsed_s(self) -> GrowableArray:
        """Seconds from the call to its result; NaN if they are not known."""
        return self._columns["elapsed_s"]
