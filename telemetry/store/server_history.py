"""The servers of the streams: when each began and stopped, and which model it had. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from mlxdeck.telemetry.columns.heard import HeardProcess
from mlxdeck.telemetry.schema import events as t

Change = Literal["start", "stop", "model"]


class ServerMark(NamedTuple):
    """A moment at which a server began, stopped, or had another model than before."""

    ts: float
    change: Change
    model: str


class _Header(NamedTuple):
    ts: float
    pid: int
    attrs: t.StreamStart


class ServerHistory:
    """Fed with headers and stops in any order. For the store's thread."""

    def __init__(self) -> None:
        self.header: t.StreamStart | None = None
        """The newest of all."""
        self._newest = (0.0, 0)
        self._stopped: dict[int, float] = {}
        self._over: dict[int, set[float]] = {}
        """By process, all moments at which its end was told or noticed."""
        self._at: dict[tuple[str, str, int], tuple[float, int]] = {}
        """The process that listened at an address last, and since when."""
        self._gone: dict[int, float] = {}
        """Processes that the system does not know any more, and when they were heard last."""
        self._heard: dict[int, float] = {}
        self._headers: list[_Header] = []
        self._stops: set[tuple[float, int]] = set()
        self._marks: list[ServerMark] | None = None

    def stopped_ts(self, pid: int) -> float:
        """When a process reported its stop, or was found dead; 0 if it still runs."""
        return self._stopped.get(pid, 0.0)

    @property
    def is_gone(self) -> bool:
        """Whether the server that was started last is gone without a word."""
        return self._newest[1] in self._gone

    def stopped(self, ts: float) -> bool:
        """Whether the server that was started last had stopped by a moment."""
        started_ts, pid = self._newest
        return 0 < started_ts <= self.stopped_ts(pid) <= ts

    def header_at(self, ts: float, running: Collection[int] = ()) -> t.StreamStart | None:
        """What the newest server of a moment says of itself; of an earlier moment, the first.

        `running` are processes that go before all others.
        """
        if not self._headers:
            return None
        began = [each for each in self._headers if each.ts <= ts]
        if began:
            first = [each for each in began if each.pid in running]
            return max(first or began, key=lambda each: each.ts).attrs
        return min(self._headers, key=lambda each: each.ts).attrs

    def headers_at(self, ts: float, pids: Collection[int]) -> list[t.StreamStart]:
        """What some processes said of themselves last by a moment, in the order of their starts."""
        began = sorted((each for each in self._headers if each.ts <= ts), key=lambda each: each.ts)
        latest = {each.pid: each for each in began if each.pid in pids}
        return [each.attrs for each in latest.values()]

    @property
    def keeps_texts(self) -> bool:
        """Whether any server kept what users said; recordings of no server have it."""
        return not self._headers or any(each.attrs.capture == "full" for each in self._headers)

    def windows(self, model: str) -> list[tuple[float, int]]:
        """When each server with a model began, and how many tokens it looks back, in order.

        Of all servers if none names the model.
        """
        own = [each for each in self._headers if each.attrs.model == model] or self._headers
        return sorted((each.ts, each.attrs.context_tokens) for each in own)

    def began(self, ts: float, pid: int, header: t.StreamStart) -> None:
        """A file begins. Two processes can't listen at one address: the one before was killed."""
        self._headers.append(_Header(ts, pid, header))
        self._marks = None
        if self._over.get(pid):
            self._note_stop(pid, max(self._over[pid]))
        if ts >= self._newest[0]:
            self.header, self._newest = header, (ts, pid)
        if not header.server_port:
            return
        address = (header.host, header.server_address, header.server_port)
        (_, before), (later_ts, later) = sorted([(ts, pid), self._at.get(address, (ts, pid))])
        self._at[address] = (later_ts, later)
        if before != later:
            self._note_stop(before, later_ts)

    def ended(self, ts: float, pid: int) -> None:
        """A server said that it stops."""
        self._stops.add((ts, pid))
        self._marks = None
        self._note_stop(pid, ts)

    def found_gone(self, pid: int, heard_ts: float) -> None:
        """The system doesn't know a process any more that was heard last at a moment."""
        # The same may be told again, though it has written since: it is there, or said its stop.
        if heard_ts >= self._heard.get(pid, -math.inf):
            self._gone[pid] = heard_ts
            self._note_stop(pid, heard_ts)

    def heard(self, told: Iterable[HeardProcess]) -> None:
        """Processes have written lines: one that was taken for gone is not."""
        for each in told:
            self._heard[each.pid] = max(each.last_ts, self._heard.get(each.pid, -math.inf))
            if each.last_ts > self._gone.get(each.pid, math.inf):
                over = self._over[each.pid]
                over.discard(self._gone.pop(each.pid))
                self._stopped[each.pid] = 0.0
                if over:
                    self._note_stop(each.pid, max(over))

    def _note_stop(self, pid: int, ts: float) -> None:
        """What said first that a life of a process is over is right: others only noticed."""
        told = self._over.setdefault(pid, set())
        told.add(ts)
        begun = (each.ts for each in self._headers if each.pid == pid and each.ts <= max(told))
        began_ts = max(begun, default=0.0)
        self._stopped[pid] = min(each for each in told if each >= began_ts)

    def marks(self, from_ts: float, until_ts: float) -> list[ServerMark]:
        """What changed between two moments, in order. A rotated file is no start."""
        if self._marks is None:
            self._marks = self._changes()
        return [mark for mark in self._marks if from_ts <= mark.ts <= until_ts]

    def _changes(self) -> list[ServerMark]:
        running: dict[int, str] = {}
        model, found = "", list[ServerMark]()
        headers = {(each.ts, each.pid): each.attrs for each in self._headers}
        for ts, pid in sorted({*headers, *self._stops}):
            if (ts, pid) in self._stops:
                # Its file may be gone that says how it began.
                found.append(ServerMark(ts, "stop", running.pop(pid, "")))
                continue
            named = headers[ts, pid].model
            if pid not in running or running[pid] != named:
                changed = bool(model) and model != named
                found.append(ServerMark(ts, "model" if changed else "start", named))
            running[pid] = model = named
        return found
