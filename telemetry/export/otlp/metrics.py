"""Histograms of requests, with the names and buckets of the GenAI conventions.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource

from mlxdeck.telemetry.export.otlp.spans import SCOPE
from mlxdeck.telemetry.schema.codec import Line
from mlxdeck.telemetry.schema.events import RequestEnd

Labels = tuple[tuple[str, str], ...]

DURATION, TTFT = "gen_ai.server.request.duration", "gen_ai.server.time_to_first_token"
PER_TOKEN, TOKENS = "gen_ai.server.time_per_output_token", "gen_ai.client.token.usage"
BOUNDS: dict[str, tuple[float, ...]] = {
    DURATION: tuple(0.01 * 2**n for n in range(14)),
    TTFT: (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
        *(1.0, 2.5, 5.0, 7.5, 10.0),
    ),
    PER_TOKEN: (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    TOKENS: tuple(float(4**n) for n in range(14)),
}
"""Upper bounds of the buckets."""
UNITS = {TOKENS: "{token}"}


@dataclass(slots=True)
class _Bucketed:
    counts: list[int]
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float, bounds: tuple[float, ...]) -> None:
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)


@dataclass(slots=True)
class RequestMetrics:
    """Adds up requests of one server."""

    _first_ns: int = 0
    _last_ns: int = 0
    _found: dict[str, dict[Labels, _Bucketed]] = field(
        default_factory=lambda: {name: {} for name in BOUNDS}
    )

    def add(self, line: Line) -> None:
        """The end of a request."""
        end = line.attrs
        assert isinstance(end, RequestEnd)
        end_ns = round(line.ts * 1e9)
        start_ns = end_ns - round(end.duration_s * 1e9)
        self._first_ns = min(self._first_ns or start_ns, start_ns)
        self._last_ns = max(self._last_ns, end_ns)
        labels = {"gen_ai.operation.name": end.operation, "gen_ai.provider.name": end.provider}
        if end.model:
            labels["gen_ai.response.model"] = end.model
        failed = {"error.type": end.error_type} if end.error_type else {}
        self._add(DURATION, end.duration_s, labels | failed)
        self._add(TTFT, end.ttft_s, labels)
        self._add(PER_TOKEN, end.time_per_output_token_s, labels)
        self._add(TOKENS, end.input_tokens, labels | {"gen_ai.token.type": "input"})
        self._add(TOKENS, end.output_tokens, labels | {"gen_ai.token.type": "output"})

    def _add(self, name: str, value: float | None, labels: dict[str, str]) -> None:
        if value is None:
            return
        bounds = BOUNDS[name]
        key = tuple(labels.items())
        series = self._found[name].setdefault(key, _Bucketed([0] * (len(bounds) + 1)))
        series.add(value, bounds)

    def data(self, of: Resource) -> MetricsData:
        """All of them, from the first request's start to the last one's end."""
        metrics = [
            Metric(
                name,
                None,
                UNITS.get(name, "s"),
                HistogramData(
                    [self._point(name, *each) for each in series.items()],
                    AggregationTemporality.CUMULATIVE,
                ),
            )
            for name, series in self._found.items()
            if series
        ]
        scope = ScopeMetrics(SCOPE, metrics, "")
        return MetricsData([ResourceMetrics(of, [scope], "")])

    def _point(self, name: str, labels: Labels, found: _Bucketed) -> HistogramDataPoint:
        return HistogramDataPoint(
            dict(labels),
            self._first_ns,
            self._last_ns,
            sum(found.counts),
            found.total,
            found.counts,
            BOUNDS[name],
            found.least,
            found.most,
        )
