"""`GET /metrics`: the server's totals and state in Prometheus' text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/. Written by hand: a client library
would bring a registry and threads for what is one loop over numbers.
"""

from __future__ import annotations

from mlxdeck.server.service import Service


def metrics(service: Service) -> bytes:
    """All metrics; before the model is loaded, those that exist by then."""
    rows: list[tuple[str, str, str, float]] = [
        ("gauge", "up", "1 once the model is loaded.", float(service.is_ready)),
    ]
    if service.is_ready:
        rows += _loaded(service)
    lines = []
    for kind, name, text, value in rows:
        lines += [
            f"# HELP mlxdeck_{name} {text}",
            f"# TYPE mlxdeck_{name} {kind}",
            f"mlxdeck_{name} {value:.15g}",
        ]
    return ("\n".join(lines) + "\n").encode()


def _loaded(service: Service) -> list[tuple[str, str, str, float]]:
    totals, load, caches = service.observer.totals, service.load, service.caches
    misses = caches.lookups - caches.hits
    return [
        ("counter", "requests_total", "Requests accepted.", totals.requests),
        ("counter", "errors_total", "Requests that ended in an error.", totals.errors),
        ("counter", "cancelled_total", "Requests whose client left.", totals.cancelled),
        ("counter", "prompt_tokens_total", "Prompt tokens, cached included.", totals.input_tokens),
        ("counter", "prefix_cache_hits_total", "Prompt tokens cached.", totals.cached_tokens),
        ("counter", "generation_tokens_total", "Tokens answered.", totals.output_tokens),
        ("counter", "tool_calls_total", "Tool calls made.", totals.tool_calls),
        ("counter", "bad_tool_calls_total", "Tool calls not readable.", totals.bad_tool_calls),
        ("counter", "looped_total", "Answers ended in a loop.", totals.looped),
        ("counter", "let_go_total", "Answers that left their grammar.", totals.let_go),
        ("counter", "exact_cache_hits_total", "Answers repeated.", caches.hits),
        ("counter", "exact_cache_misses_total", "Answers not known.", misses),
        ("counter", "upkeep_errors_total", "Faults beside requests.", service.upkeep.errors),
        ("gauge", "requests_running", "Requests in the engine.", load.active),
        ("gauge", "requests_waiting", "Requests in the queue.", load.queued),
        ("gauge", "exact_cache_bytes", "Bytes of exact answers.", load.exact_bytes),
        ("gauge", "prefix_cache_bytes", "Bytes of KV states.", load.prefix_bytes),
        ("gauge", "device_memory_bytes", "Bytes MLX holds.", load.memory_active_bytes),
    ]
