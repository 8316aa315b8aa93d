"""Figures of the server since its start."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
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
    model: str
    """The model that answered; `other` behind the first `MAX_MODELS`."""
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

    def copy(self) -> Histogram:
        """As it is now."""
        made = Histogram()
        made.counts, made.total_s = [*self.counts], self.total_s
        return made


MAX_MODELS = 20
"""Label values are kept for ever, and an upstream's client may name any model."""
TIMES = ("duration_s", "ttft_s", "queue_s", "time_per_output_token_s")
"""What of a request's end there are histograms of."""


@dataclass(slots=True)
class Totals:
    """Counted since the server started; they only ever grow."""

    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """By type of error."""
    cancelled: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    """Answers that are complete, by the reason why they ended."""
    input_tokens: int = 0
    looked_up_tokens: int = 0
    """Of prompts that were not answered as a whole, where it is known how much was cached."""
    cached_tokens: int = 0
    """Those of them that were known."""
    output_tokens: int = 0
    """Those that were computed."""
    forced_tokens: int = 0
    """Those of them that a grammar forced."""
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    """Guessed tokens that were verified, and those of them that were written too."""
    repeated_tokens: int = 0
    """Requests whose answer was known, or in flight for another request."""
    tool_calls: int = 0
    repaired_tool_calls: int = 0
    bad_tool_calls: int = 0
    looped: int = 0
    let_go: int = 0
    times: dict[str, dict[Labels, Histogram]] = field(
        default_factory=lambda: {name: {} for name in TIMES}
    )

    _models: set[str] = field(default_factory=set)

    def called(self, *, repaired: bool) -> None:
        """A tool call was read."""
        self.tool_calls += 1
        self.repaired_tool_calls += repaired

    def ended(self, dialect: str, end: RequestEnd, computed: bool) -> None:
        """A request is over; `computed` means that a backend worked on it."""
        self.errors.update([end.error_type or "unknown"] if end.outcome == "error" else ())
        self.cancelled += end.outcome == "cancelled"
        self.finished.update(end.finish_reasons if end.outcome == "ok" else ())
        self.looped += end.ended_by == "loop"
        self.let_go += bool(end.let_go)
        self.input_tokens += end.input_tokens or 0
        if computed:
            self.output_tokens += end.output_tokens or 0
            self.forced_tokens += end.forced_tokens or 0
            self.drafted_tokens += end.drafted_tokens or 0
            self.accepted_tokens += end.accepted_tokens or 0
            # Of another server's prompts it is mostly unknown: they were not looked up.
            if end.cached_tokens is not None:
                self.looked_up_tokens += end.input_tokens or 0
                self.cached_tokens += end.cached_tokens
        else:
            self.repeated_tokens += end.output_tokens or 0
        model = self._model_label(end.model)
        labels = Labels(dialect, model, end.outcome, end.cache_result or "none")
        for name, histograms in self.times.items():
            seconds = getattr(end, name)
            if seconds is not None:
                histograms.setdefault(labels, Histogram()).add(seconds)

    def _model_label(self, model: str) -> str:
        if model not in self._models and len(self._models) == MAX_MODELS:
            return "other"
        self._models.add(model)
        return model
