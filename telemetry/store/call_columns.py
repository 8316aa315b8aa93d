"""Every tool call in a few bytes: whose it is, which tool, in which format, what was wrong."""

from __future__ import annotations

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray, grown

_KINDS = {"rows": np.int32, "names": np.int32, "parsers": np.int32, "faults": np.uint8}


class CallColumns:
    """All calls in the order in which they came. For one thread."""

    def __init__(self) -> None:
        self._n = 0
        self._arrays = {name: np.zeros(256, kind) for name, kind in _KINDS.items()}

    def __len__(self) -> int:
        return self._n

    def add(
        self,
        rows: GrowableArray,
        names: GrowableArray,
        parsers: GrowableArray,
        faults: GrowableArray,
    ) -> None:
        """More of them; names and parsers by their numbers."""
        n = self._n + len(rows)
        for name, values in zip(_KINDS, (rows, names, parsers, faults), strict=True):
            if n > len(self._arrays[name]):
                self._arrays[name] = grown(self._arrays[name], self._n, n)
            self._arrays[name][self._n : n] = values
        self._n = n

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
