"""The newest of something that comes with times, kept in their order; older ones are let go of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np

Times = np.ndarray[Any, np.dtype[np.float64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]
_T = TypeVar("_T")


class Recent(Sequence[_T], Generic[_T]):
    """Merged when it is looked at, not when it is added to. For one thread."""

    def __init__(self, limit: int) -> None:
        """At most `limit` are kept."""
        self._limit = limit
        self._n_added = 0
        self._times: Times = np.zeros(0, np.float64)
        self._numbers: Numbers = np.zeros(0, np.int64)
        self._values = np.zeros(0, object)
        self._waiting: list[tuple[Times, Numbers, Any]] = []
        self._n_waiting = 0

    def add(self, times: Times, values: Iterable[_T]) -> None:
        """More of them, each with its time, in any order."""
        n = len(times)
        if not n:
            return
        numbers = np.arange(self._n_added, self._n_added + n)
        self._waiting.append((times, numbers, np.fromiter(values, object, n)))
        self._n_added += n
        self._n_waiting += n
        if self._n_waiting > self._limit:
            self._merge()

    @property
    def times(self) -> Times:
        """The time of each, the earliest first."""
        self._merge()
        return self._times

    @property
    def numbers(self) -> Numbers:
        """The number of each, which stays its own when others come and go."""
        self._merge()
        return self._numbers

    def numbered(self, number: int) -> _T | None:
        """The one with a number, if it is still there."""
        found = np.flatnonzero(self.numbers == number)
        return self[int(found[0])] if len(found) else None

    def until(self, ts: float) -> int:
        """How many are not later than a moment."""
        return int(np.searchsorted(self.times, ts, side="right"))

    def __len__(self) -> int:
        self._merge()
        return len(self._times)

    @overload
    def __getitem__(self, place: int) -> _T: ...

    @overload
    def __getitem__(self, place: slice) -> list[_T]: ...

    def __getitem__(self, place: int | slice) -> _T | list[_T]:
        self._merge()
        if isinstance(place, slice):
            return list(self._values[place])
        found: _T = self._values[place]
        return found

    def _merge(self) -> None:
        if not self._waiting:
            return
        parts = [(self._times, self._numbers, self._values), *self._waiting]
        times, numbers, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._waiting.clear()
        self._n_waiting = 0
        order = np.argsort(times, kind="stable")[-self._limit :]
        self._times, self._numbers, self._values = times[order], numbers[order], values[order]
