"""When figures cross thresholds, and which findings are new: pure. Each crossing is told once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.analyze.finding import ReportFinding
from mlxdeck.telemetry.analyze.sentences import percent, span
from mlxdeck.telemetry.analyze.stats import Summary
from mlxdeck.telemetry.schema.events import Tick

MIN_REQUESTS = 5
"""Rates of fewer say nothing."""
INSIDE = 0.1
"""Share of a limit by which a figure has to be back before its crossing is over."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that is crossed, or a finding that appeared."""

    name: str
    """The threshold's, as its field of `Thresholds`; or the finding's."""
    title: str
    """The same for people."""
    text: str
    n_requests: int
    """Requests that were counted, or that show the finding."""
    value: float | None = None
    limit: float | None = None
    """Both in the unit that the name ends with, shares from 0 to 1; None of findings."""


@dataclass(frozen=True, slots=True)
class LimitedFigure:
    """A figure beside its limit."""

    name: str
    title: str
    value: float | None
    """NaN if there are too few requests to say; None if there is nothing to count."""
    limit: float
    text: str
    """What a crossing says."""
    is_floor: bool = False
    """Whether lower figures are the bad ones."""

    @property
    def is_crossed(self) -> bool:
        """Whether the figure is beyond its limit."""
        if self.value is None:
            return False
        return self.value < self.limit if self.is_floor else self.value > self.limit

    @property
    def is_back(self) -> bool:
        """Whether the figure is so far inside that another crossing is news."""
        if self.value is None:
            return True
        if self.is_floor:
            # A share has no room for ten percent above 95 percent.
            return self.value >= min(self.limit * (1 + INSIDE), (1 + self.limit) / 2)
        return self.value <= self.limit * (1 - INSIDE)


def limited_figures(
    limits: Thresholds, total: Summary, tick: Tick | None
) -> Iterator[LimitedFigure]:
    """The figures of a window that have a limit."""
    n = total.n_requests
    if limit := limits.latency_p95_s:
        p95_s = _rate(total.duration.p95, total.duration.n, n)
        text = f"P95 {span(p95_s or 0)} is over {span(limit)}"
        yield LimitedFigure("latency_p95_s", "latency", p95_s, limit, text)
    if limit := limits.hit_rate:
        hits = _rate(total.hits.total, n, n)
        text = f"{_share(hits)} of the tokens from cache, under {_share(limit)}"
        yield LimitedFigure("hit_rate", "hit rate", hits, limit, text, is_floor=True)
    if limit := limits.error_rate:
        failed = _rate(total.n_errors / n if n else 0, n, n)
        text = f"{_share(failed)} failed, over {_share(limit)}"
        yield LimitedFigure("error_rate", "errors", failed, limit, text)
    if limits.queue:
        queued = tick.queued if tick else None
        wait = "request waits" if queued == 1 else "requests wait"
        text = f"{queued} {wait}, over {limits.queue}"
        yield LimitedFigure("queue", "queue", queued, limits.queue, text)
    if limits.memory_bytes:
        held = tick.memory_active_bytes if tick else None
        text = f"{_size(held or 0)} held, over {_size(limits.memory_bytes)}"
        yield LimitedFigure("memory_bytes", "memory", held, limits.memory_bytes, text)


def _rate(value: float, n_counted: int, n_requests: int) -> float | None:
    if not n_requests:
        return None
    return value if n_counted >= MIN_REQUESTS else math.nan


def _share(part: float | None) -> str:
    return "none" if part is None or math.isnan(part) else percent(part, 1)


def _size(n_bytes: float) -> str:
    return f"{n_bytes / GB:.1f} GB" if n_bytes >= GB / 10 else f"{n_bytes:,.0f} bytes"


class Watch:
    """Remembers which thresholds are crossed."""

    def __init__(self, limits: Thresholds) -> None:
        self.limits = limits
        self._active: dict[str, Alert] = {}

    @property
    def active(self) -> list[Alert]:
        """Crossings that are not over."""
        return list(self._active.values())

    def look(self, total: Summary, tick: Tick | None) -> list[Alert]:
        """Crossings since the last look.

        A crossing is over when its figure is clearly back, or when there is nothing to count.
        """
        new = []
        for each in limited_figures(self.limits, total, tick):
            if each.is_crossed and each.value is not None:
                alert = Alert(
                    each.name, each.title, each.text, total.n_requests, each.value, each.limit
                )
                if each.name not in self._active:
                    new.append(alert)
                self._active[each.name] = alert
            elif each.is_back:
                self._active.pop(each.name, None)
        return new


class FindingWatch:
    """Remembers which findings were told, by their names and subjects."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def look(self, found: Iterable[ReportFinding]) -> list[Alert]:
        """Findings that were never there before. A title names the subject, and no figures."""
        new = []
        for each in found:
            if (each.name, each.title) not in self._told:
                self._told.add((each.name, each.title))
                new.append(Alert(each.name, "finding", each.title, each.n_requests))
        return new
