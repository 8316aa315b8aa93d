"""Requests that overlap, each in a lane: those of an agent beside each other. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlxdeck.telemetry.analyze.request_spans import RequestSpan
from mlxdeck.telemetry.store.store import Store

MAX_NAME = 8


class Asker(NamedTuple):
    """Who asks: a session, and an agent of it; numbers in the store's texts."""

    session: int
    agent: int


@dataclass(slots=True)
class AgentLane:
    """Requests of one agent that don't overlap."""

    label: str
    spans: list[RequestSpan] = field(default_factory=list)


class AgentLanes:
    """Keeps each request in its lane while time goes on."""

    def __init__(self) -> None:
        self._lane_of: dict[int, int] = {}
        """Of each shown request, the number of its lane among those of its agent."""

    def place(self, store: Store, spans: Sequence[RequestSpan]) -> list[AgentLane]:
        """The lanes from top to bottom: the session that began last first, then its agents.

        `spans` are in the order of their start.
        """
        sessions, agents = store.column("session"), store.column("agent")
        askers: dict[Asker, list[RequestSpan]] = {}
        for span in spans:
            asker = Asker(int(sessions[span.row]), int(agents[span.row]))
            askers.setdefault(asker, []).append(span)
        began = {asker: place for place, asker in enumerate(askers)}
        first: dict[int, int] = {}
        for asker, place in began.items():
            first.setdefault(asker.session, place)
        kept: dict[int, int] = {}
        lanes: list[AgentLane] = []
        shown = -1
        for asker in sorted(askers, key=lambda each: (-first[each.session], began[each])):
            own = self._own(askers[asker], kept)
            label = _label(store, asker, own[0].spans[0].row, is_first=asker.session != shown)
            shown = asker.session
            own[0].label = label
            lanes += own
        self._lane_of = kept
        return lanes

    def _own(self, spans: Sequence[RequestSpan], kept: dict[int, int]) -> list[AgentLane]:
        """The lanes of one agent: a request has its old one, or the first that is free."""
        lanes: dict[int, AgentLane] = {}
        for span in spans:
            if span.row in self._lane_of:
                lanes.setdefault(self._lane_of[span.row], AgentLane("")).spans.append(span)
        for span in spans:
            number = self._lane_of.get(span.row, -1)
            if number < 0:
                number = 0
                while any(
                    _overlap(span, other) for other in lanes.get(number, AgentLane("")).spans
                ):
                    number += 1
                lanes.setdefault(number, AgentLane("")).spans.append(span)
            kept[span.row] = number
        for lane in lanes.values():
            lane.spans.sort(key=lambda span: (span.start_ts, span.row))
        return [lanes[number] for number in sorted(lanes)]


def _overlap(one: RequestSpan, other: RequestSpan) -> bool:
    return one.start_ts < _end(other) and other.start_ts < _end(one)


def _end(span: RequestSpan) -> float:
    return math.inf if span.runs else span.end_ts


def _label(store: Store, asker: Asker, row: int, *, is_first: bool) -> str:
    session = store.strings[asker.session][:MAX_NAME] or "·"
    if not asker.agent:
        return session if is_first else "└ main"
    name = store.text("agent_name", row) or store.strings[asker.agent][:MAX_NAME]
    return f"{session} {name}" if is_first else f"└ {name}"
