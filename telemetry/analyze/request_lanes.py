"""Requests that overlap, each in a lane: an agent keeps its own, near its session's. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlxdeck.telemetry.analyze.request_spans import RequestSpan
from mlxdeck.telemetry.store.store import Store

MAX_NAME = 8
LATE_S = 2.0
"""So much later than it happened, a line is still news."""


class Asker(NamedTuple):
    """Who asks: a session, and an agent of it; numbers in the store's texts."""

    session: int
    agent: int


@dataclass(slots=True)
class AgentLane:
    """Requests that don't overlap; its name is that of who asked last."""

    label: str = ""
    spans: list[RequestSpan] = field(default_factory=list)
    asker: Asker = Asker(0, 0)

    def add(self, span: RequestSpan, asker: Asker) -> None:
        """One more request, whenever it was."""
        if not self.spans or span.start_ts >= self.spans[-1].start_ts:
            self.asker = asker
        self.spans.append(span)

    def has_room(self, span: RequestSpan) -> bool:
        """Whether none of its requests runs at the same time."""
        return not any(_overlap(span, other) for other in reversed(self.spans))


class AgentLanes:
    """Keeps each request in its lane while time goes on."""

    def __init__(self) -> None:
        self._lane_of: dict[int, int] = {}
        """Of each shown request, the number of its lane."""
        self._running: set[int] = set()
        self._now_ts = math.inf

    def place(self, store: Store, spans: Sequence[RequestSpan], now_ts: float) -> list[AgentLane]:
        """The lanes that are in use at a moment. `spans` are in the order of their start.

        Lanes are kept while time goes on. What was read late, and another filter or window, places
        all requests anew: then they lie as if all had been known.
        """
        if now_ts <= self._now_ts or any(self._is_late(span) for span in spans):
            self._lane_of = {}
        self._running, self._now_ts = {span.row for span in spans if span.runs}, now_ts
        sessions, agents = store.column("session"), store.column("agent")
        askers = {span.row: Asker(int(sessions[span.row]), int(agents[span.row])) for span in spans}
        kept = {row: lane for row, lane in self._lane_of.items() if row in askers}
        lanes = [AgentLane() for _ in range(max(kept.values(), default=-1) + 1)]
        for span in spans:
            if span.row in kept:
                lanes[kept[span.row]].add(span, askers[span.row])
        for span in spans:
            if span.row not in kept:
                number = _lane_for(lanes, span, askers[span.row])
                if number == len(lanes):
                    lanes.append(AgentLane())
                lanes[number].add(span, askers[span.row])
                kept[span.row] = number
        self._lane_of = kept
        shown = [lane for lane in lanes if lane.spans]
        for lane in shown:
            lane.spans.sort(key=lambda span: (span.start_ts, span.row))
            lane.label = _label(store, lane.asker, lane.spans[-1].row)
        return shown

    def _is_late(self, span: RequestSpan) -> bool:
        """Whether it was thought otherwise of the moment before."""
        known_ts = self._now_ts - LATE_S
        if span.row not in self._lane_of:
            return span.start_ts < known_ts
        return span.row in self._running and not span.runs and span.end_ts < known_ts


def _lane_for(lanes: Sequence[AgentLane], span: RequestSpan, asker: Asker) -> int:
    """The agent's own lane, else a free one beside its session's, else a new one."""
    free = [number for number, lane in enumerate(lanes) if lane.has_room(span)]
    own = [number for number in free if lanes[number].asker == asker]
    if own:
        return own[0]
    near = [number for number, lane in enumerate(lanes) if lane.asker.session == asker.session]
    if near and free:
        return min(free, key=lambda number: (min(abs(number - each) for each in near), number))
    return free[0] if free else len(lanes)


def _overlap(one: RequestSpan, other: RequestSpan) -> bool:
    return one.start_ts < _end(other) and other.start_ts < _end(one)


def _end(span: RequestSpan) -> float:
    return math.inf if span.runs else span.end_ts


def _label(store: Store, asker: Asker, row: int) -> str:
    session = store.strings[asker.session][:MAX_NAME] or "·"
    if not asker.agent:
        return session
    name = store.text("agent_name", row) or store.strings[asker.agent][:MAX_NAME]
    return f"{session} {name}"
