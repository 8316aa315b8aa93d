"""Results of tool calls, joined to their calls by id. Calls and results come in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.columns.record_batch import Results
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.call_columns import CallColumns

MAX_WAITING = 20_000
"""Calls without a result, and results without a call, that may yet find each other."""
MAX_SHOWN = 20_000
"""The newest results are kept to be shown; all of them are counted."""


class ToolResultRow(NamedTuple):
    """A result, and the time when a request brought it."""

    ts: float
    packed: bytes

    @property
    def result(self) -> t.CallResult:
        """The result, decoded at each access."""
        return _unpack(self.packed)


_unpack = msgspec.msgpack.Decoder(t.CallResult).decode


class CallResults:
    """Fills in the columns of the calls. For one thread."""

    def __init__(self, calls: CallColumns) -> None:
        self._calls = calls
        self._waiting: dict[str, list[tuple[float, int]]] = {}
        """Calls without a result, by their ids: when each was made, and its number. An answer that
        is given again has the same ids."""
        self._n_waiting = 0
        self._early: dict[str, tuple[float, bool, float]] = {}
        """Results whose call has not been read."""
        self._shown: dict[str, ToolResultRow] = {}
        self._counted: tuple[float, int, int] | None = None
        self.n_scanned = 0
        """How often all results were looked at to count them."""

    def until(self, ts: float) -> int:
        """How many results of calls had come by a moment."""
        calls = self._calls
        if ts >= calls.answered_ts:
            return calls.n_answered
        # Every part of a drawing asks.
        if self._counted is None or self._counted[:2] != (ts, calls.n_answered):
            self.n_scanned += 1
            n_known = int(np.count_nonzero(calls.result_ts <= ts))
            self._counted = (ts, calls.n_answered, n_known)
        return self._counted[2]

    def called(self, first: int, ids: Sequence[str], times: GrowableArray) -> None:
        """Calls were added to the columns, the first of them with that number."""
        for number, (call_id, made_ts) in enumerate(zip(ids, times.tolist(), strict=True), first):
            if not call_id:
                continue
            if (early := self._early.pop(call_id, None)) is not None:
                ts, failed, elapsed_s = early
                self._calls.answer([number], [ts], [failed], [elapsed_s])
            else:
                self._waiting.setdefault(call_id, []).append((made_ts, number))
                self._n_waiting += 1
        while self._n_waiting > MAX_WAITING:
            # The oldest give way, also of one answer that is given again and again.
            self._waits_no_more(next(iter(self._waiting)), 0)

    def came(self, results: Results) -> None:
        """Results were read; one that is known changes nothing."""
        numbers, places = [], []
        times = results.ts.tolist()
        for place, (call_id, ts) in enumerate(zip(results.ids, times, strict=True)):
            known = self._shown.get(call_id)
            if not call_id or (known is not None and known.ts == ts):
                continue
            if call_id in self._waiting:
                numbers.append(self._called_before(call_id, ts))
                places.append(place)
            elif known is None:
                failed, elapsed_s = results.failed[place].item(), results.elapsed_s[place].item()
                self._early[call_id] = (ts, failed, elapsed_s)
            if known is None:
                self._shown[call_id] = ToolResultRow(ts, results.packed[place])
        if numbers:
            told = (results.ts[places], results.failed[places], results.elapsed_s[places])
            self._calls.answer(numbers, *told)
        while len(self._early) > MAX_WAITING:
            del self._early[next(iter(self._early))]
        if len(self._shown) > 2 * MAX_SHOWN:
            newest = sorted(self._shown.items(), key=lambda each: each[1].ts)[-MAX_SHOWN:]
            self._shown = dict(newest)

    def _called_before(self, call_id: str, ts: float) -> int:
        """The last call before a result waits no more; which it is depends on times alone."""
        calls = self._waiting[call_id]
        if len(calls) == 1:
            return self._waits_no_more(call_id, 0)
        made = [place for place, (made_ts, _) in enumerate(calls) if made_ts <= ts]
        return self._waits_no_more(call_id, made[-1] if made else 0)

    def _waits_no_more(self, call_id: str, place: int) -> int:
        calls = self._waiting[call_id]
        _, number = calls.pop(place)
        self._n_waiting -= 1
        if not calls:
            del self._waiting[call_id]
        return number

    def of(self, call_id: str, as_of_ts: float) -> ToolResultRow | None:
        """The result of a call, if it had come by then and is kept."""
        found = self._shown.get(call_id) if call_id else None
        return found if found and found.ts <= as_of_ts else None
