"""`GET /metrics`: the server's totals and state in Prometheus' text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/. The library writes the format. The
figures are the server's own, read again for each scrape, so there is no global registry. A name
that vLLM has too means the same: https://docs.vllm.ai/en/stable/usage/metrics.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mlxdeck.server.admin.status import versions
from mlxdeck.server.observe.totals import BOUNDS_S, Histogram, Labels
from mlxdeck.server.service import Service

_TIMES = {
    "duration_s": ("e2e_request_latency", "From a request's arrival to its end."),
    "ttft_s": ("time_to_first_token", "From a request's arrival to its first token."),
    "queue_s": ("request_queue_time", "Time that a request waited for the engine."),
    "time_per_output_token_s": (
        "request_time_per_output_token",
        "Mean time between tokens of an answer.",
    ),
}
"""Name and meaning of each histogram, by the figure that it is of."""


Reports = Mapping[str, Mapping[str, Any]]
"""What a backend reports of its tiers."""


async def metrics(service: Service) -> bytes:
    """All metrics; before the model is loaded, those that exist by then.

    For the event loop: only the figures are taken there.
    """
    reports: Reports = {}
    if service.is_ready:
        reports = await asyncio.to_thread(service.backend.cache_report)
    found = [*_figures(service, reports)]
    times = service.observer.totals.times if service.is_ready else {}
    taken = {
        name: {labels: each.copy() for labels, each in histograms.items()}
        for name, histograms in times.items()
    }
    return await asyncio.to_thread(_text, found, taken)


def _text(found: Iterable[Metric], times: Mapping[str, dict[Labels, Histogram]]) -> bytes:
    registry = CollectorRegistry()
    histograms = (_histogram(*_TIMES[name], each) for name, each in times.items())
    registry.register(_Collected([*found, *histograms]))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """Every metric."""
        return self._found


def _figures(service: Service, reports: Reports) -> Iterator[Metric]:
    yield _gauge("up", "1 once the model is loaded.", service.is_ready)
    if service.is_ready:
        yield _build(service)
        yield from _requests(service)
        yield from _tokens(service)
        yield from _state(service, reports)
        yield from _models(service)
        yield from _telemetry(service)


def _requests(service: Service) -> Iterator[Metric]:
    totals, caches = service.observer.totals, service.caches
    yield _counter("requests", "Requests that came.", totals.requests)
    text = "Requests that ended in an error, by its type."
    yield _counted("request_errors", text, "type", totals.errors)
    yield _counter("requests_cancelled", "Requests whose client left.", totals.cancelled)
    text = "Answers that are complete, by the reason why they ended."
    yield _counted("request_success", text, "finished_reason", totals.finished)
    yield _counter("tool_calls", "Tool calls that the model made.", totals.tool_calls)
    text = "Tool calls whose JSON was repaired."
    yield _counter("repaired_tool_calls", text, totals.repaired_tool_calls)
    text = "Tool calls that could not be read."
    yield _counter("unreadable_tool_calls", text, totals.bad_tool_calls)
    yield _counter("looped_answers", "Answers that were ended in a loop.", totals.looped)
    text = "Answers that left the grammar they were held to."
    yield _counter("answers_off_grammar", text, totals.let_go)
    yield _counter("exact_cache_hits", "Requests whose answer was known.", caches.hits)
    misses = caches.lookups - caches.hits
    yield _counter("exact_cache_misses", "Requests whose answer was not known.", misses)


def _tokens(service: Service) -> Iterator[Metric]:
    totals = service.observer.totals
    yield _counter("prompt_tokens", "Tokens of prompts, known ones included.", totals.input_tokens)
    text = "Tokens of prompts that were looked up among KV states."
    yield _counter("prefix_cache_queries", text, totals.looked_up_tokens)
    text = "Tokens of prompts that came from KV states."
    yield _counter("prefix_cache_hits", text, totals.cached_tokens)
    yield _counter("generation_tokens", "Tokens that the model wrote.", totals.output_tokens)
    text = "Generated tokens that a grammar forced, without a pass of their own."
    yield _counter("forced_tokens", text, totals.forced_tokens)
    text = "Tokens guessed from the conversation or by a draft model, which the model verified."
    yield _counter("draft_tokens", text, totals.drafted_tokens)
    text = "Guessed tokens that the model wrote too, without a pass of their own."
    yield _counter("accepted_tokens", text, totals.accepted_tokens)
    text = "Tokens of answers that were known, or just being written."
    yield _counter("repeated_tokens", text, totals.repeated_tokens)


def _state(service: Service, reports: Reports) -> Iterator[Metric]:
    load, details = service.load, service.backend.status.details
    text = "Times that the engine was rebuilt after a fault."
    yield _counter("engine_rebuilds", text, details.get("engine_rebuilds", 0))
    text = "KV states that could not be kept, copied or cut."
    yield _counter("lost_states", text, details.get("lost_states", 0))
    yield _counter("upkeep_errors", "Faults beside requests.", service.upkeep.errors)
    yield _gauge("num_requests_running", "Requests in the engine.", load.active)
    yield _gauge("num_requests_waiting", "Requests in the queue.", load.queued or 0)
    yield _gauge("exact_cache_bytes", "Bytes of exact answers.", load.exact_bytes)
    yield _gauge("prefix_cache_bytes", "Bytes of KV states.", load.prefix_bytes)
    text = "Bytes of KV states in 8 bits."
    yield _gauge("prefix_cache_quantized_bytes", text, load.prefix_quantized_bytes)
    text = "Bytes of KV states if none shared any with another."
    yield _gauge("prefix_cache_logical_bytes", text, sum(_told(reports, "logical_bytes")))
    text = "Faults that the check of the index of KV states has found."
    yield _counter("prefix_cache_faults", text, sum(_told(reports, "faults")))
    yield _gauge("device_memory_bytes", "Bytes MLX holds.", load.memory_active_bytes)


def _told(reports: Reports, name: str) -> Iterator[int]:
    """What the tiers of KV states in RAM report under a name."""
    for tier, told in reports.items():
        if (tier == "prefix" or tier.endswith("_prefix")) and name in told:
            yield int(told[name])


def _models(service: Service) -> Iterator[Metric]:
    text = "1 while the model is in memory, by model."
    loaded = GaugeMetricFamily("mlxdeck_model_loaded", text, labels=["model"])
    text = "Times that the model was loaded again, by model and outcome."
    loads = CounterMetricFamily("mlxdeck_model_loads", text, labels=["model", "outcome"])
    for model in service.load.models:
        loaded.add_metric([model.name], model.state == "loaded")
        loads.add_metric([model.name, "ok"], model.n_loads)
        loads.add_metric([model.name, "error"], model.n_failed)
    yield loaded
    yield loads


def _telemetry(service: Service) -> Iterator[Metric]:
    emitter = service.observer.emitter
    text = "Events that could not be written."
    yield _counter("telemetry_dropped_lines", text, emitter.dropped_lines)
    text = "Events that passed without a processor, for it failed."
    yield _counter("telemetry_processor_failures", text, emitter.processor_failures)
    yield _gauge("telemetry_failing", "1 while no event can be written.", bool(emitter.failing))


def _build(service: Service) -> Metric:
    found, device = versions(), service.backend.info.device
    labels = {"version": found["mlxdeck"], "mlx": found.get("mlx", ""), "model": service.model}
    labels["device"] = device
    return InfoMetricFamily("mlxdeck_build", "Versions, model and device.", value=labels)


def _counted(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"mlxdeck_{name}", text, labels=[label])
    for value, n in sorted(counts.items()):
        family.add_metric([value], n)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"mlxdeck_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"mlxdeck_{name}", text, value=value)


def _histogram(name: str, text: str, histograms: dict[Labels, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"mlxdeck_{name}_seconds", text, labels=Labels._fields)
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    for labels, histogram in histograms.items():
        counted, below = 0, []
        for bound, n in zip(bounds, histogram.counts, strict=True):
            counted += n
            below.append((bound, counted))
        family.add_metric(labels, below, histogram.total_s)
    return family
