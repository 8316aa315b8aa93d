"""Findings about requests without an answer: who left, what took too long, what failed."""

from __future__ import annotations

import math
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
from mlxdeck.telemetry.analyze.sentences import counted, dated, percent, span
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.columns.record_batch import STATES
from mlxdeck.telemetry.schema.figures import CANCELLED, ERROR

TIMED_OUT = (408, 504)
"""Statuses: the body came too slowly, another server took too long."""
TIME_OUT_SHARE = 0.02
"""Nobody causes these on purpose, so fewer than of other failures are worth a look."""
PHASES = (
    *("before its prompt was counted", "in the queue", "in prefill", "in decode"),
    "while another server had it",
)
_REACHED = {"wait": 1, "prefill": 2, "decode": 3}
"""Places in `PHASES` by the state that a request reports."""
GATEWAY_ERRORS = (502, 503, 504)
DOWN = ("down", "error", "busy")


def phases(traffic: Traffic) -> Array:
    """How far each came, as a place in `PHASES`."""
    prepared = traffic.known("input_tokens") > 0
    admitted = prepared & ~np.isnan(traffic.column("prefill_s"))
    begun = ~np.isnan(traffic.column("ttft_s"))
    reached = np.array([_REACHED.get(state, 0) for state in STATES])
    reported = reached[traffic.store.states(math.inf)[traffic.rows]]
    by_figures = np.where(admitted, 2, np.where(prepared, 1, 0))
    found = np.where(begun, 3, np.maximum(by_figures, reported))
    elsewhere = ~traffic.is_any("provider", *LOCAL_PROVIDERS)
    return np.where(elsewhere & (found < 3), 4, found)


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


def _phase_counts(traffic: Traffic, places: Array) -> dict[str, int]:
    found = np.bincount(phases(traffic)[places], minlength=len(PHASES)).tolist()
    return {phase: n for phase, n in zip(PHASES, found, strict=True) if n}


def _by_phase(traffic: Traffic, places: Array) -> str:
    counts = _phase_counts(traffic, places)
    parts = ", ".join(f"{n:,} {phase}" for phase, n in counts.items())
    return f"{counted(len(places), 'request')} of {len(traffic.rows):,}: {parts}"


def servers_died(traffic: Traffic) -> ReportFinding:
    """Servers that ended in the middle of requests; `traffic` are those that were lost, not none.

    One is enough: no server does this on a good day.
    """
    places, ends_ts = np.arange(len(traffic.rows)), traffic.column("end_ts")
    waited_s = ends_ts - traffic.column("start_ts")
    pids = {traffic.store.lost_with(row) for row in traffic.rows.tolist()}
    reached = ", ".join(f"{n:,} {phase}" for phase, n in _phase_counts(traffic, places).items())
    return ReportFinding(
        "servers_died",
        "A server ended in the middle of requests.",
        (
            f"{counted(len(places), 'request')} lost with {counted(len(pids), 'server')}:"
            f" {reached}",
            f"the last sign of life was at {dated(float(ends_ts.max()))}",
            f"they had waited {span(float(np.median(waited_s)))} in the median",
        ),
        (
            "look at the server's log, and at the system's: it kills who takes too much memory",
            "mlxdeck up starts a server again that ended; mlxdeck doctor looks at its memory",
            "leave it more room: a smaller model, or less for --prefix-cache-bytes",
        ),
        len(places),
        traffic.ids(places, waited_s),
        float(waited_s.sum()),
    )


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
