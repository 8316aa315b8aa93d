"""Sends spans and metrics of requests to a collector, by OTLP over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import requests as http
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mlxdeck.telemetry.export.otlp.metrics import RequestMetrics
from mlxdeck.telemetry.export.otlp.spans import resource, spans
from mlxdeck.telemetry.export.request_lines import RequestLines
from mlxdeck.telemetry.export.tables import ExportError

SPANS_AT_ONCE = 500
TIMEOUT_S = 10.0
"""For a collector to take them, with the attempts that the exporter makes."""


@dataclass(frozen=True, slots=True)
class SentRequests:
    """What a collector has taken."""

    n_requests: int
    n_spans: int


def exporters(url: str) -> tuple[SpanExporter, MetricExporter]:
    """Those of the SDK; `OTEL_EXPORTER_OTLP_HEADERS` may hold a key for the collector."""
    # Its own messages repeat what `send` says.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    session = http.Session()
    session.hooks["response"].append(_refuse_redirect)
    return (
        OTLPSpanExporter(f"{url}/v1/traces", timeout=TIMEOUT_S, session=session),
        OTLPMetricExporter(f"{url}/v1/metrics", timeout=TIMEOUT_S, session=session),
    )


def _refuse_redirect(response: http.Response, **_: object) -> None:
    """The exporter follows none, and counts it as taken."""
    if response.is_redirect:
        response.close()
        raise http.TooManyRedirects("redirects are not followed")


def send(
    requests: Iterable[RequestLines], to_spans: SpanExporter, to_metrics: MetricExporter
) -> SentRequests:
    """Send every request's spans, and then the metrics of all of them.

    Raises:
        ExportError: The collector didn't take some.
    """
    metrics: dict[Resource, RequestMetrics] = {}
    waiting: list[ReadableSpan] = []
    n_requests = n_spans = 0
    for request in requests:
        of = resource(request.header)
        metrics.setdefault(of, RequestMetrics()).add(request.lines[-1])
        made = list(spans(request, of))
        n_requests, n_spans = n_requests + 1, n_spans + len(made)
        waiting += made
        if len(waiting) >= SPANS_AT_ONCE:
            _put(to_spans, waiting)
            waiting = []
    _put(to_spans, waiting)
    for of, found in metrics.items():
        if to_metrics.export(found.data(of)) is not MetricExportResult.SUCCESS:
            raise ExportError("the collector takes spans, but no metrics")
    return SentRequests(n_requests, n_spans)


def _put(exporter: SpanExporter, waiting: list[ReadableSpan]) -> None:
    if waiting and exporter.export(waiting) is not SpanExportResult.SUCCESS:
        raise ExportError("the collector does not take spans there, or does not answer")
