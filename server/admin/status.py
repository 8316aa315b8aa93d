"""Bodies of `GET /health` and `/v1/status`."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mlxdeck.server.lifecycle.running_request import RunningRequest
from mlxdeck.server.process_memory import process_bytes
from mlxdeck.server.service import Service


def health(service: Service) -> dict[str, Any]:
    """The body of `GET /health`; its shape is a contract."""
    caches = service.caches if service.is_ready else None
    state = service.health
    hits, total = (caches.hits, caches.lookups) if caches else (0, 0)
    return {
        "status": state.state,
        **({"reason": state.reason} if state.reason else {}),
        "model": service.model,
        "model_loaded": service.model_loaded,
        "cache": {
            "hits": hits,
            "misses": total - hits,
            "total_requests": total,
            "hit_rate": f"{100 * hits / total if total else 0:.1f}%",
            "cached_items": service.load.exact_entries,
        },
    }


def status(service: Service, running: Sequence[RunningRequest] = ()) -> dict[str, Any]:
    """The server's model, limits and memory, and those running requests that the client may see."""
    settings = service.settings
    body: dict[str, Any] = {
        "status": service.health.state,
        "uptime_s": round(service.uptime_s, 3),
        "pid": os.getpid(),
        "versions": versions(),
        "limits": {
            "max_batch": settings.max_batch,
            "max_waiting": settings.max_waiting,
            "prefill_chunk_tokens": settings.prefill_chunk_tokens,
            "max_body_bytes": settings.max_body_bytes,
        },
        "model": service.model,
        "asked_model": settings.model,
        "model_path": None,
        "requests": [_shown(each) for each in running],
    }
    if not service.is_ready:
        return body
    info, load = service.backend.info, service.load
    return {
        **body,
        "context_tokens": info.context_tokens,
        "device": info.device,
        **info.details,
        **service.backend.status.details,
        "local_models": [asdict(each) for each in load.models],
        "active": load.active,
        "queued": load.queued,
        "looped": service.observer.totals.looped,
        "upkeep_errors": service.upkeep.errors,
        "telemetry": str(service.observer.emitter.path or "") or None,
        "memory": {
            "active_bytes": load.memory_active_bytes,
            "peak_bytes": load.memory_peak_bytes,
            "process_bytes": process_bytes(),
            "exact_cache_bytes": load.exact_bytes,
            "prefix_cache_bytes": load.prefix_bytes,
            "prefix_cache_quantized_bytes": load.prefix_quantized_bytes,
            "stored_response_bytes": service.stored.n_bytes,
        },
    }


def _shown(request: RunningRequest) -> dict[str, Any]:
    return {
        "id": request.request_id,
        "client_id": request.client_id or None,
        "path": request.path,
        "model": request.model or None,
        "phase": request.phase,
        "age_s": round(request.age_s, 3),
        **request.progress(),
    }


@cache
def versions() -> Mapping[str, str]:
    """Versions of what decides how the server behaves; read from disk once."""
    found = {"python": platform.python_version()}
    for name in ("mlxdeck", "mlx", "mlx-lm", "sanic"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
