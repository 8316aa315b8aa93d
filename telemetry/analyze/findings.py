"""What is wrong with recorded traffic: every detector, and the findings in the order of cost."""

from __future__ import annotations

from mlxdeck.telemetry.analyze import (
    findings_answers,
    findings_cache,
    findings_failures,
    findings_time,
)
from mlxdeck.telemetry.analyze.finding import Detector, ReportFinding, Traffic
from mlxdeck.telemetry.analyze.shown_names import ShownNames
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.store.store import Store

DETECTORS: tuple[Detector, ...] = (
    findings_cache.first_request_slow,
    findings_cache.same_block,
    findings_cache.tools_change,
    findings_cache.evicted,
    findings_time.prefill_dominates,
    findings_time.long_conversations,
    findings_time.queueing,
    findings_answers.cut,
    findings_answers.bad_calls,
    findings_answers.looping,
    findings_answers.grammar_left,
    findings_answers.unused_tools,
    findings_failures.disconnects,
    findings_failures.time_outs,
    findings_failures.upstream_fails,
    findings_failures.falls_back,
    findings_failures.requests_fail,
)
"""A new finding is a function and a line here."""


def findings(
    store: Store, rows: Array, names: ShownNames | None = None, lost: Array | None = None
) -> list[ReportFinding]:
    """What there is to say about requests that ended; the one that costs most first.

    `lost` are requests that were lost with their servers. Reads a few requests again from their
    files.
    """
    names, found = names or ShownNames(), list[ReportFinding]()
    if len(rows):
        traffic = Traffic(store, rows, names)
        found += [each for detector in DETECTORS for each in detector(traffic)]
    if lost is not None and len(lost):
        found.append(findings_failures.servers_died(Traffic(store, lost, names)))
    return sorted(found, key=lambda each: (-(each.saves_s or 0.0), -each.n_requests))
