"""Findings about requests without an answer: who left, what took too long, what failed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlxdeck.telemetry.analyze.finding import (
    LOCAL_PROVIDERS,
    MIN_FAULT_SHARE,
    MIN_REQUESTS,
    ReportFinding,
    Traffic,
)
from mlxdeck.telemetry.analyze.findings_time import OVERLOADED
from mlxdeck.telemetry.analyze.sentences import counted, percent, span
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.schema.figures import CANCELLED, ERROR

TIMED_OUT = (408, 504)
"""Statuses: the body came too slowly, another server took too long."""
TIME_OUT_SHARE = 0.02
"""Nobody causes these on purpose, so fewer than of other failures are worth a look."""
PHASES = ("before its prompt was counted", "in the queue", "in prefill", "in decode")
GATEWAY_ERRORS = (502, 503, 504)
DOWN = ("down", "error", "busy")


def phases(traffic: Traffic) -> Array:
    """How far each came, as a place in `PHASES`."""
    prepared = traffic.known("input_tokens") > 0
    admitted = prepared & ~np.isnan(traffic.column("prefill_s"))
    answered = ~np.isnan(traffic.column("ttft_s"))
    return np.where(answered, 3, np.where(admitted, 2, np.where(prepared, 1, 0)))


def disconnects(traffic: Traffic) -> Iterator[ReportFinding]:
    """Clients that leave before their answer is complete."""
    places = np.flatnonzero(traffic.column("outcome") == CANCELLED)
    if len(places) < max(MIN_REQUESTS, MIN_FAULT_SHARE * len(traffic.rows)):
        return
    took_s = traffic.known("duration_s")[places]
    yield ReportFinding(
        "disconnects",
        "Clients leave before they have an answer.",
        (
            _by_phase(traffic, places),
            f"they had waited {span(float(np.median(took_s)))} in the median,"
            f" {span(float(took_s.max()))} at most",
        ),
        (
            "raise the client's time-out (API_TIMEOUT_MS in Claude Code), if it gives up by itself",
            "make the phase shorter in which they leave, see the other findings",
        ),
        len(places),
        traffic.ids(places, took_s),
        float(took_s.sum()),
    )


def _by_phase(traffic: Traffic, places: Array) -> str:
    found = phases(traffic)[places]
    counts = {PHASES[phase]: int((found == phase).sum()) for phase in range(len(PHASES))}
    parts = ", ".join(f"{n:,} {phase}" for phase, n in counts.items() if n)
    return f"{counted(len(places), 'request')} of {len(traffic.rows):,}: {parts}"


def time_outs(traffic: Traffic) -> Iterator[ReportFinding]:
    """Requests that the server ended because something took too long."""
    places = np.flatnonzero(np.isin(traffic.known("status"), TIMED_OUT))
    if len(places) < max(MIN_REQUESTS, TIME_OUT_SHARE * len(traffic.rows)):
        return
    took_s = traffic.known("duration_s")[places]
    is_body = traffic.known("status")[places] == TIMED_OUT[0]
    is_other = is_upstream(traffic)[places] & ~is_body
    counts = {
        "sent their body too slowly": int(is_body.sum()),
        "waited too long for another server": int(is_other.sum()),
        "reached their deadline": int((~is_body & ~is_other).sum()),
    }
    advice = {
        "sent their body too slowly": "look at the network of these clients",
        "waited too long for another server": "raise --upstream-timeout-s, if it is only slow",
        "reached their deadline": "raise --request-timeout-s, or the client's own deadline",
    }
    yield ReportFinding(
        "time_outs",
        "Requests end because something took too long.",
        (
            _by_phase(traffic, places),
            ", ".join(f"{n:,} {what}" for what, n in counts.items() if n),
            f"they had waited {span(float(np.median(took_s)))} in the median",
        ),
        tuple(advice[what] for what, n in counts.items() if n),
        len(places),
        traffic.ids(places, took_s),
        float(took_s.sum()),
    )


def is_upstream(traffic: Traffic) -> Array:
    """Whether another server was asked for each."""
    is_other = ~traffic.is_any("provider", *LOCAL_PROVIDERS)
    return np.asarray(is_other | np.isin(traffic.known("status"), GATEWAY_ERRORS[:1]))


def upstream_fails(traffic: Traffic) -> Iterator[ReportFinding]:
    """Another server that can't be reached, or answers with errors."""
    asked = is_upstream(traffic)
    failed = asked & (traffic.column("outcome") == ERROR)
    failed &= ~np.isin(traffic.known("status"), TIMED_OUT)
    for backend, own in traffic.groups(np.flatnonzero(asked), "backend"):
        places = own[failed[own]]
        name = traffic.names.backend(backend)
        if len(places) < max(MIN_REQUESTS, MIN_FAULT_SHARE * len(own)):
            continue
        kinds = [
            f"{text or 'error'} {len(rows):,}"
            for text, rows in traffic.groups(places, "error_type")
        ]
        took_s = traffic.known("duration_s")[places]
        yield ReportFinding(
            "upstream_fails",
            f"The other server {name} answers with errors.",
            (
                f"{len(places):,} of {counted(len(own), 'request')} failed,"
                f" {percent(len(places), len(own))}: {', '.join(kinds)}",
            ),
            (
                "mlxdeck doctor shows whether the other server can be reached, and its key",
                "let another backend take over: --fallback",
            ),
            len(places),
            traffic.ids(places, took_s),
            float(took_s.sum()),
        )


def falls_back(traffic: Traffic) -> Iterator[ReportFinding]:
    """A backend for which another one has to answer."""
    for backend, own in traffic.groups(np.arange(len(traffic.rows)), "fell_back_from"):
        places = own[traffic.is_any("fallback_reason", *DOWN)[own]]
        if not backend or len(places) < max(MIN_REQUESTS, MIN_FAULT_SHARE * len(traffic.rows)):
            continue
        kinds = [
            f"{text} {len(rows):,}" for text, rows in traffic.groups(places, "fallback_reason")
        ]
        yield ReportFinding(
            "falls_back",
            f"Another backend has to answer for {traffic.names.backend(backend)}.",
            (f"{counted(len(places), 'request')}: {', '.join(kinds)}",),
            ("look at the log of the backend that is asked first; mlxdeck doctor tests it",),
            len(places),
            traffic.ids(places),
        )


def requests_fail(traffic: Traffic) -> Iterator[ReportFinding]:
    """Requests that this server refused, or that its engine failed."""
    failed = (traffic.column("outcome") == ERROR) & ~is_upstream(traffic)
    failed &= ~traffic.is_any("error_type", OVERLOADED) & traffic.is_any("let_go", "")
    failed &= ~np.isin(traffic.known("status"), TIMED_OUT)
    places = np.flatnonzero(failed)
    if len(places) < max(MIN_REQUESTS, MIN_FAULT_SHARE * len(traffic.rows)):
        return
    kinds = [
        f"{text or 'error'} {len(rows):,}" for text, rows in traffic.groups(places, "error_type")
    ]
    took_s = traffic.known("duration_s")[places]
    yield ReportFinding(
        "requests_fail",
        "Requests end in an error.",
        (
            _by_phase(traffic, places),
            f"by type: {', '.join(kinds)}",
        ),
        (
            "mlxdeck inspect REQUEST shows the message of each",
            "api_error: the model failed, so look at the server's log and at its memory",
            "invalid_request_error: the client sends what the server can't read or has no room for",
        ),
        len(places),
        traffic.ids(places, took_s),
        float(took_s.sum()),
    )
