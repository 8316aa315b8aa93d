"""The newest items with their times, in order of time; the oldest items are dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, overload

import msgspec
import numpy as np

from mlxdeck.telemetry.schema import events as t

Times = np.ndarray[Any, np.dtype[np.float64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]
_Column = np.ndarray[Any, np.dtype[Any]]
_T = TypeVar("_T")


class _Columns(NamedTuple):
    times: _Column
    numbers: _Column
    owners: _Column
    values: _Column


_KINDS = (np.float64, np.int64, np.int64, object)


class BoundedHistory(Sequence[_T], Generic[_T]):
    """Merged when it is looked at, not when it is added to. For one thread.

    Kept as columns, so that the garbage collector has nothing to look through.
    """

    def __init__(self, limit: int, make: Callable[[float, int, Any], _T]) -> None:
        """At most `limit` are kept; `make` puts one together: its time, its owner, its value."""
        self._limit = limit
        self._make = make
        self._n_added = 0
        self._columns = _Columns(*(np.zeros(0, kind) for kind in _KINDS))
        self._waiting: list[_Columns] = []
        self._n_waiting = 0

    def add(self, times: Times, owners: Numbers, values: Sequence[Any]) -> None:
        """More of them, in any order."""
        n = len(times)
        if not n:
            return
        numbers = np.arange(self._n_added, self._n_added + n)
        self._waiting.append(_Columns(times, numbers, owners, np.fromiter(values, object, n)))
        self._n_added += n
        self._n_waiting += n
        if self._n_waiting > self._limit:
            self._merge()

    @property
    def times(self) -> Times:
        """The time of each, the earliest first."""
        return self._merged.times

    @property
    def numbers(self) -> Numbers:
        """The number of each item; it stays the same when other items come and go."""
        return self._merged.numbers

    @property
    def owners(self) -> Numbers:
        """Whose each is."""
        return self._merged.owners

    @property
    def values(self) -> _Column:
        """The value of each, as it was added."""
        return self._merged.values

    def numbered(self, number: int) -> _T | None:
        """The one with a number, if it is still there."""
        found = np.flatnonzero(self.numbers == number)
        return self[int(found[0])] if len(found) else None

    def until(self, ts: float) -> int:
        """How many are not later than a moment."""
        return int(np.searchsorted(self.times, ts, side="right"))

    def __len__(self) -> int:
        return len(self._merged.times)

    @overload
    def __getitem__(self, place: int) -> _T: ...

    @overload
    def __getitem__(self, place: slice) -> list[_T]: ...

    def __getitem__(self, place: int | slice) -> _T | list[_T]:
        times, _, owners, values = self._merged
        if isinstance(place, slice):
            columns = (column[place].tolist() for column in (times, owners, values))
            return list(map(self._make, *columns))
        return self._make(float(times[place]), int(owners[place]), values[place])

    @property
    def _merged(self) -> _Columns:
        if self._waiting:
            self._merge()
        return self._columns

    def _merge(self) -> None:
        parts = zip(self._columns, *self._waiting, strict=True)
        whole = _Columns(*map(np.concatenate, parts))
        self._waiting.clear()
        self._n_waiting = 0
        order = np.argsort(whole.times, kind="stable")[-self._limit :]
        self._columns = _Columns(*(column[order] for column in whole))


class TickRow(NamedTuple):
    """A tick, and the process that wrote it."""

    ts: float
    pid: int
    tick: t.Tick


class ToolCallRow(NamedTuple):
    """A tool call, as the list of calls shows it; long arguments are cut."""

    ts: float
    row: int
    packed: bytes

    @property
    def call(self) -> t.ToolCall:
        """The call, decoded at each access."""
        return _unpack(self.packed)


_unpack = msgspec.msgpack.Decoder(t.ToolCall).decode
