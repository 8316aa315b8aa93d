"""Figures of the server since its start."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

from mlxdeck.telemetry.schema.events import RequestEnd

BOUNDS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0),
    *(80.0, 160.0, 320.0, 640.0),
)
"""Upper bounds of the buckets of times; one without a bound follows."""


class Labels(NamedTuple):
    """The labels of times and outcomes."""

    dialect: str
    outcome: str
    cache: str
    """The best that any cache did for it: `exact`, `prefix`, `miss`, or `none` if none was asked.
    """


class Histogram:
    """Times in buckets."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds


TIMES = ("duration_s", "ttft_s", "queue_s", "time_per_output_token_s")
"""What of a request's end there are histograms of."""


@dataclass(slots=True)
class Totals:
    """Counted since the server started; they only ever grow."""

    requests: int = 0
    errors: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    """Of prompts that were not answered as a whole."""
    output_tokens: int = 0
    """Those that were computed."""
    repeated_tokens: int = 0
    """Requests whose answer was known, or in flight for another request."""
    prefix_hits: int = 0
    """Requests of whose prompt the beginning was known."""
    prefix_misses: int = 0
    tool_calls: int = 0
    bad_tool_calls: int = 0
    looped: int = 0
    let_go: int = 0
    times: dict[str, dict[Labels, Histogram]] = field(
        default_factory=lambda: {name: {} for name in TIMES}
    )

    def ended(self, dialect: str, end: RequestEnd, computed: bool) -> None:
        """A request is over; `computed` means that a backend worked on it."""
        self.errors += end.outcome == "error"
        self.cancelled += end.outcome == "cancelled"
        self.looped += end.ended_by == "loop"
        self.let_go += bool(end.let_go)
        self.input_tokens += end.input_tokens or 0
        if computed:
            self.output_tokens += end.output_tokens or 0
            self.cached_tokens += end.cached_tokens or 0
            self.prefix_hits += end.cache_result == "prefix"
            self.prefix_misses += end.cache_result == "miss"
        else:
            self.repeated_tokens += end.output_tokens or 0
        labels = Labels(dialect, end.outcome, end.cache_result or "none")
        for name, histograms in self.times.items():
            seconds = getattr(end, name)
            if seconds is not None:
                histograms.setdefault(labels, Histogram()).add(seconds)
