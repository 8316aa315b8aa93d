"""Requests as spans: one for each request, and one for each of its phases.

A stream that is exported twice gives the same spans, as their ids are made of the requests' ids.
Texts of users and models are never a part of them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mlxdeck.telemetry.export.request_lines import RequestLines
from mlxdeck.telemetry.schema.codec import Line
from mlxdeck.telemetry.schema.events import (
    CacheLookup,
    Error,
    FirstToken,
    RequestEnd,
    RequestStart,
    StreamStart,
    ToolCall,
)

SCOPE = InstrumentationScope("mlxdeck")
PRIVATE = (
    *("gen_ai.tool.call.arguments", "gen_ai.request.stop_sequences", "mlx.last_user_text"),
    *("mlx.answer_schema", "message", "mlx.trace_parent"),
)
"""Attributes with texts of a user or a model, and those that a span has in another form."""
EVENTS = {
    FirstToken: "first token",
    CacheLookup: "cache lookup",
    ToolCall: "tool call",
    Error: "error",
}
"""Events of a span, by the event of telemetry."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


@functools.lru_cache(maxsize=64)
def resource(header: StreamStart | None) -> Resource:
    """The server that wrote a stream."""
    told = _attributes(header) if header else {}
    kept = {name: told[name] for name in told if name.partition(".")[0] in ("service", "host")}
    return Resource({"service.name": "mlxdeck", **kept})


def spans(request: RequestLines, of: Resource) -> Iterator[ReadableSpan]:
    """The span of a request, then those of its phases."""
    start, end = _one(request, RequestStart), request.lines[-1]
    assert isinstance(end.attrs, RequestEnd)
    told = {**(_attributes(start.attrs) if start else {}), **_attributes(end.attrs)}
    sent = start.attrs.trace_parent if start and isinstance(start.attrs, RequestStart) else ""
    parent = _parent(sent)
    own = _context(end.request_id, parent.trace_id if parent else _id(end.request_id, 16))
    end_ns = _ns(end.ts)
    model = told.get("gen_ai.request.model") or told.get("gen_ai.response.model", "")
    error = told.get("error.type")
    yield ReadableSpan(
        name=f"{told['gen_ai.operation.name']} {model}".strip(),
        context=own,
        parent=parent,
        resource=of,
        attributes={**told, "mlx.request_id": end.request_id},
        events=[_event(line) for line in request.lines if type(line.attrs) in EVENTS],
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR, str(error)) if error else Status(StatusCode.UNSET),
        start_time=end_ns - _ns(end.attrs.duration_s),
        end_time=end_ns,
        instrumentation_scope=SCOPE,
    )
    yield from _phases(request, own, of)


def _phases(request: RequestLines, own: SpanContext, of: Resource) -> Iterator[ReadableSpan]:
    """Queue and prefill end with the first token, decode begins with it."""
    first = _one(request, FirstToken)
    if first is None or not isinstance(first.attrs, FirstToken):
        return
    end = request.lines[-1].attrs
    decode_s = end.decode_s if isinstance(end, RequestEnd) else None
    at_ns, waited = _ns(first.ts), first.attrs
    prefill_ns = at_ns - _ns(waited.prefill_s)
    queue_ns = prefill_ns - _ns(waited.queue_s)
    found = {"queue": (queue_ns, prefill_ns), "prefill": (prefill_ns, at_ns)}
    if decode_s is not None:
        found["decode"] = (at_ns, at_ns + _ns(decode_s))
    until_ns = _ns(request.lines[-1].ts)
    from_ns = until_ns - _ns(end.duration_s) if isinstance(end, RequestEnd) else queue_ns
    for name, times_ns in found.items():
        # The first token's line is written a moment after it came.
        start_ns, end_ns = (min(max(at_ns, from_ns), until_ns) for at_ns in times_ns)
        yield ReadableSpan(
            name=name,
            context=_context(f"{first.request_id} {name}", own.trace_id),
            parent=own,
            resource=of,
            kind=SpanKind.INTERNAL,
            start_time=start_ns,
            end_time=end_ns,
            instrumentation_scope=SCOPE,
        )


def _event(line: Line) -> Event:
    attrs = line.attrs
    assert attrs is not None
    return Event(EVENTS[type(attrs)], _attributes(attrs), _ns(line.ts))


def _attributes(attrs: Any) -> dict[str, Any]:
    """What an event says, but for texts; by the names that its line has."""
    told = msgspec.to_builtins(attrs)
    kept = {name: value for name, value in told.items() if name not in PRIVATE}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items()}


def _one(request: RequestLines, kind: type[Any]) -> Line | None:
    return next((line for line in request.lines if isinstance(line.attrs, kind)), None)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _id(text: str, n_bytes: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:n_bytes], "big")


def _context(name: str, trace_id: int) -> SpanContext:
    return SpanContext(trace_id, _id(f"span {name}", 8), False, _SAMPLED)


def _parent(traceparent: str) -> SpanContext | None:
    """The client's span; telemetry holds none that is malformed."""
    if not traceparent:
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
