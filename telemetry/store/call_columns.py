"""Every tool call in a few bytes: whose it is, which tool, in which format, what was wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray, grown

_KINDS = {
    **dict.fromkeys(("rows", "names", "parsers"), np.int32),
    "faults": np.uint8,
    "argument_bytes": np.float32,
}
_ANSWERED = {"result_ts": np.float64, "failed": np.bool_, "elapsed_s": np.float32}
"""Of a call's result; the moment and the seconds are NaN where none is known."""


class CallColumns:
    """All calls in the order in which they came. For one thread."""

    def __init__(self) -> None:
        self._n = 0
        kinds = {**_KINDS, **_ANSWERED}
        self._arrays: dict[str, GrowableArray] = {
            name: np.zeros(256, kind) for name, kind in kinds.items()
        }

    def __len__(self) -> int:
        return self._n

    def add(
        self,
        rows: GrowableArray,
        names: GrowableArray,
        parsers: GrowableArray,
        faults: GrowableArray,
        argument_bytes: GrowableArray,
    ) -> None:
        """More of them; names and parsers by their numbers."""
        n = self._n + len(rows)
        told = dict(zip(_KINDS, (rows, names, parsers, faults, argument_bytes), strict=True))
        for name in self._arrays:
            if n > len(self._arrays[name]):
                self._arrays[name] = grown(self._arrays[name], self._n, n)
            self._arrays[name][self._n : n] = told.get(name, 0 if name == "failed" else np.nan)
        self._n = n

    def answer(
        self,
        numbers: Sequence[int],
        ts: GrowableArray | Sequence[float],
        failed: GrowableArray | Sequence[bool],
        elapsed_s: GrowableArray | Sequence[float],
    ) -> None:
        """The results of some calls have come."""
        for name, values in zip(_ANSWERED, (ts, failed, elapsed_s), strict=True):
            self._arrays[name][numbers] = values

    @property
    def rows(self) -> GrowableArray:
        """The request of each. A view, as all below."""
        return self._arrays["rows"][: self._n]

    @property
    def names(self) -> GrowableArray:
        """The number of its tool's name among the store's texts."""
        return self._arrays["names"][: self._n]

    @property
    def parsers(self) -> GrowableArray:
        """The number of the format's name."""
        return self._arrays["parsers"][: self._n]

    @property
    def faults(self) -> GrowableArray:
        """As `record_batch.Calls` has them."""
        return self._arrays["faults"][: self._n]

    @property
    def argument_bytes(self) -> GrowableArray:
        """Size of its arguments; 0 if it is not known."""
        return self._arrays["argument_bytes"][: self._n]

    @property
    def result_ts(self) -> GrowableArray:
        """When a request brought the result; NaN if none has."""
        return self._arrays["result_ts"][: self._n]

    @property
    def failed(self) -> GrowableArray:
        """Whether its client says that it failed."""
        return self._arrays["failed"][: self._n]

    @property
    def elapsed_s(self) -> GrowableArray:
        """Seconds from the call to its result; NaN if they are not known."""
        return self._arrays["elapsed_s"][: self._n]
