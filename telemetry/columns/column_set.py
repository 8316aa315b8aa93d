"""Columns of one length that grow together, each in as few bytes as its values need. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray, grown, wide_enough, zeros

_FIRST_ROOM = 1024


class ColumnSet:
    """Values by row. For one thread.

    A column of which nothing but its fill was told takes no memory. One of unsigned numbers becomes
    wider once a number needs it.
    """

    def __init__(
        self, kinds: Mapping[str, tuple[Any, float]], always_told: Collection[str] = ()
    ) -> None:
        """For each column its type and what fills it; `always_told` are filled from the start."""
        self.n = 0
        self._kinds = kinds
        self._arrays = {name: zeros(_FIRST_ROOM, kind) for name, (kind, _) in kinds.items()}
        self._untold = {name for name, (_, fill) in kinds.items() if fill} - {*always_told}

    def __getitem__(self, name: str) -> GrowableArray:
        """One column over all rows; a view that more rows or higher numbers may outdate."""
        if name in self._untold:
            kind, fill = self._kinds[name]
            return np.broadcast_to(np.asarray(fill, kind), self.n)
        return self._arrays[name][: self.n]

    def is_untold(self, name: str) -> bool:
        """Whether all of it is its fill, by what was told so far."""
        return name in self._untold

    def grow(self, n: int) -> None:
        """Have so many rows; new ones are filled."""
        n_before, self.n = self.n, n
        for name, array in self._arrays.items():
            if n > len(array):
                self._arrays[name] = grown(array, n_before, n)
            if (fill := self._kinds[name][1]) and name not in self._untold:
                self._arrays[name][n_before:n] = fill

    def put(self, name: str, rows: Any, values: Any) -> None:
        """Set the values of some rows."""
        array = self._arrays[name]
        if name in self._untold:
            self._untold.remove(name)
            array[: self.n] = self._kinds[name][1]
        if array.dtype.kind == "u":
            highest = np.max(values, initial=0)
            array = self._arrays[name] = wide_enough(array, self.n, highest)
        array[rows] = values
