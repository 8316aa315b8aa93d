"""Thresholds, and when figures cross them: pure. Each crossing is reported once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mlxdeck.telemetry.analyze.stats import Summary
from mlxdeck.telemetry.schema.events import Tick
from mlxdeck.tui.text import format as fmt

MIN_REQUESTS = 5
"""Rates of fewer say nothing."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Upper or lower limits; 0 turns a limit off."""

    latency_p95_s: float = 0.0
    hit_rate: float = 0.0
    error_rate: float = 0.0
    queue: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that is crossed."""

    name: str
    text: str


def crossed(limits: Thresholds, total: Summary, tick: Tick | None) -> Iterator[Alert]:
    """Every threshold that the figures of a window are beyond."""
    n = total.n_requests
    p95_s = total.duration.p95
    if limits.latency_p95_s and total.duration.n >= MIN_REQUESTS and p95_s > limits.latency_p95_s:
        over = f"P95 {fmt.duration(p95_s)} is over {fmt.duration(limits.latency_p95_s)}"
        yield Alert("latency", over)
    hits = total.hits.total
    if limits.hit_rate and n >= MIN_REQUESTS and not math.isnan(hits) and hits < limits.hit_rate:
        under = (
            f"{fmt.percent(hits)} of the tokens from cache, under {fmt.percent(limits.hit_rate)}"
        )
        yield Alert("hit rate", under)
    if limits.error_rate and n >= MIN_REQUESTS and total.n_errors / n > limits.error_rate:
        share = fmt.percent(total.n_errors / n)
        yield Alert("errors", f"{share} failed, over {fmt.percent(limits.error_rate)}")
    if tick and tick.queued and limits.queue and tick.queued > limits.queue:
        yield Alert("queue", f"{tick.queued} requests wait, over {limits.queue}")
    if tick and limits.memory_bytes and tick.memory_active_bytes > limits.memory_bytes:
        held = fmt.size(tick.memory_active_bytes)
        yield Alert("memory", f"{held} held, over {fmt.size(limits.memory_bytes)}")


class Watch:
    """Remembers which alerts have been reported."""

    def __init__(self, limits: Thresholds) -> None:
        self.limits = limits
        self.active: list[Alert] = []

    def look(self, total: Summary, tick: Tick | None) -> list[Alert]:
        """Alerts since the last look.

        A figure that returned to normal may raise its alert again.
        """
        before = {alert.name for alert in self.active}
        self.active = list(crossed(self.limits, total, tick))
        return [alert for alert in self.active if alert.name not in before]
