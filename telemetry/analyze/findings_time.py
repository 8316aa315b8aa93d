"""Findings about time: waiting, long prompts, long conversations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlxdeck.telemetry.analyze.finding import MIN_REQUESTS, ReportFinding, Traffic
from mlxdeck.telemetry.analyze.sentences import counted, percent, span
from mlxdeck.telemetry.analyze.stats import Array, nearest_rank

QUEUE_SHARE = 0.2
"""Of the time: with less, a larger batch would slow down each request by more than it saves."""
QUEUED_S = 0.5
"""A wait that a person notices."""
OVERLOADED = "overloaded_error"
PREFILL_SHARE = 0.5
"""More than half of the time: reading costs more than all the rest."""
LONG_PREFILL_S = 2.0
NEAR_WINDOW = 0.8
"""Of the window; Claude Code compacts a conversation at about this length."""
NEAR_SHARE = 0.05
LONG_TIMES = 2
"""A conversation is long if its prompt is so many times the median."""
MIN_LONG_TOKENS = 8_000
"""Below, the attention to earlier tokens costs less than all else in a layer."""
SLOWER = 1.3
"""Times as long for a token: less is the noise of other requests in the batch."""


def queueing(traffic: Traffic) -> Iterator[ReportFinding]:
    """Requests that wait for others, or are refused because too many wait."""
    waits_s = traffic.known("queue_s")
    refused = np.flatnonzero(traffic.is_any("error_type", OVERLOADED))
    places = np.flatnonzero(waits_s >= QUEUED_S)
    total_s = float(waits_s.sum())
    waits = len(places) >= MIN_REQUESTS and total_s >= QUEUE_SHARE * traffic.waited_s
    if not waits and len(refused) < max(MIN_REQUESTS, 0.02 * len(traffic.rows)):
        return
    evidence = []
    if len(places):
        evidence += [
            f"{counted(len(places), 'request')} waited {span(QUEUED_S)} or longer,"
            f" {span(total_s)} together: {percent(total_s, traffic.waited_s)} of the time",
            f"the slowest twentieth waited {span(nearest_rank(waits_s, (95,))[0])} or longer",
        ]
    if len(refused):
        evidence.append(f"{counted(len(refused), 'request')} were refused: the queue was full")
    shown = np.union1d(places, refused)
    yield ReportFinding(
        "queueing",
        "Requests wait for other requests.",
        tuple(evidence),
        (
            "raise --max-batch, if memory allows: more requests run together",
            "let a small model answer the short requests (--small-model), or run fewer agents"
            " at once",
            "raise --max-waiting, so that fewer are refused",
        ),
        len(shown),
        traffic.ids(shown, waits_s[shown]),
        total_s or None,
    )


def prefill_dominates(traffic: Traffic) -> Iterator[ReportFinding]:
    """Time goes into reading what is really new in each prompt."""
    places = np.flatnonzero(traffic.computed & traffic.ok)
    fresh = np.clip(traffic.new_tokens - _lost(traffic), 0, None)
    cost_s = traffic.read_s(fresh)
    total_s = float(cost_s[places].sum())
    whole_s = float(traffic.known("duration_s")[places].sum())
    slow = places[cost_s[places] >= LONG_PREFILL_S]
    if len(slow) < MIN_REQUESTS or total_s < PREFILL_SHARE * whole_s:
        return
    read_s = traffic.cost.read_s
    yield ReportFinding(
        "prefill_dominates",
        "Most of the time goes into reading new parts of prompts.",
        (
            f"{percent(total_s, whole_s)} of the time of computed answers is prefill of new text",
            f"{counted(len(slow), 'request')} read for {span(LONG_PREFILL_S)} or longer,"
            f" {np.median(fresh[slow]):,.0f} new tokens in the median",
            *((f"1,000 tokens take {span(1000 * read_s)}",) if read_s == read_s else ()),
        ),
        (
            "send less: limit what tools return, read parts of files, leave out tools that are"
            " not needed",
            "use a smaller or more quantised model: the time falls with its size",
            "on Linux, mlxdeck doctor shows whether a fast BLAS library is in use",
        ),
        len(slow),
        traffic.ids(slow, cost_s[slow]),
        total_s / 2,
        int(fresh[slow].sum() / 2),
    )


def _lost(traffic: Traffic) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What other findings blame for computed tokens: only a miss that has a reason lost any."""
    known = ~traffic.is_any("miss_reason", "")
    first = (traffic.before < 0) & traffic.is_any("miss_reason", "cold", "model_changed")
    lost = np.where(known, traffic.lost_tokens, 0)
    return np.where(first, traffic.new_tokens, lost)


def long_conversations(traffic: Traffic) -> Iterator[ReportFinding]:
    """Conversations so long that each token of an answer takes longer, or near the window."""
    lengths, n_out = traffic.known("input_tokens"), traffic.known("output_tokens")
    judged = np.flatnonzero(traffic.computed & traffic.ok & (n_out > 1) & (lengths > 0))
    if len(judged) < 2 * MIN_REQUESTS:
        return
    limit = max(MIN_LONG_TOKENS, LONG_TIMES * float(np.median(lengths[judged])))
    per_token_s = traffic.known("decode_s") / np.maximum(n_out - 1, 1)
    long, short = judged[lengths[judged] >= limit], judged[lengths[judged] < limit / 2]
    windows = _windows(traffic)[judged]
    near = judged[(windows > 0) & (lengths[judged] >= NEAR_WINDOW * windows)]
    lost_s, evidence = 0.0, []
    if len(long) >= MIN_REQUESTS and len(short) >= MIN_REQUESTS:
        usual_s, now_s = (float(np.median(per_token_s[each])) for each in (short, long))
        extra_s = float(np.clip(per_token_s[long] - usual_s, 0, None) @ n_out[long])
        if now_s >= SLOWER * usual_s and traffic.matters(extra_s):
            lost_s = extra_s
            evidence.append(
                f"beyond {limit:,.0f} tokens, a token takes {span(now_s)} instead of"
                f" {span(usual_s)}: {counted(len(long), 'request')}"
            )
    if len(near) >= max(MIN_REQUESTS, NEAR_SHARE * len(judged)):
        sizes = np.unique(windows[np.isin(judged, near)])
        evidence.append(
            f"{counted(len(near), 'request')} fill {NEAR_WINDOW:.0%} of the window of"
            f" {' to '.join(f'{size:,}' for size in sizes[[0, -1][: len(sizes)]])} tokens, or more"
        )
    if not evidence:
        return
    shown = np.union1d(
        long if lost_s else long[:0], near if len(evidence) > bool(lost_s) else near[:0]
    )
    yield ReportFinding(
        "long_conversations",
        "Long conversations make answers slow.",
        tuple(evidence),
        (
            "begin a new session for a new task, or compact earlier (/compact in Claude Code)",
            "let sub-agents read many files: only their result gets into the conversation",
        ),
        len(shown),
        traffic.ids(shown, lengths[shown]),
        lost_s or None,
    )


def _windows(traffic: Traffic) -> Array:
    """How many tokens the server of each request looked back; 0 if it is unknown."""
    found, times = np.zeros(len(traffic.rows), np.int64), traffic.column("end_ts")
    for model, own in traffic.groups(np.arange(len(traffic.rows)), "served"):
        if not (servers := traffic.store.servers.windows(model)):
            continue
        began, windows = map(np.array, zip(*servers, strict=True))
        found[own] = windows[np.maximum(np.searchsorted(began, times[own], "right") - 1, 0)]
    return found
