"""Findings about prompts that were computed though they, or most of them, had been before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlxdeck.telemetry.analyze.finding import MIN_REQUESTS, ReportFinding, Traffic
from mlxdeck.telemetry.analyze.sentences import counted, percent, span
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.schema.figures import PREFIX

FIRST_SLOW_S = 1.0
"""A first answer within a second is not felt as slow, whatever share of the time it is."""
COLD = ("cold", "model_changed")
DIVERGED = "diverged"
TOOLS = "tools"


def first_request_slow(traffic: Traffic) -> Iterator[ReportFinding]:
    """Sessions that begin with a system prompt that nothing knows yet."""
    cold = traffic.is_any("miss_reason", *COLD)
    shared = np.where(
        traffic.known("shared_tokens") > 0,
        traffic.known("shared_tokens"),
        traffic.known("input_tokens"),
    )
    is_first = traffic.computed & (traffic.before < 0) & cold
    lost = np.clip(shared - traffic.known("cached_tokens"), 0, traffic.new_tokens)
    cost_s = traffic.read_s(lost)
    places = np.flatnonzero(is_first & (cost_s >= FIRST_SLOW_S))
    saved_s = float(cost_s[places].sum())
    if len(places) < MIN_REQUESTS or not traffic.matters(saved_s):
        return
    n_sessions = len(np.unique(traffic.column("session")[places]))
    prefill_s = traffic.known("prefill_s")[places]
    yield ReportFinding(
        "first_request_slow",
        "The first request of a session waits for its system prompt.",
        (
            f"{counted(len(places), 'first request')} of {counted(n_sessions, 'session')}"
            " had nothing in a cache",
            f"prefill took {span(float(np.median(prefill_s)))} in the median"
            f" and {span(float(prefill_s.max()))} at most",
            f"system prompt and tools are {np.median(shared[places]):,.0f} tokens of it",
        ),
        (
            "start the server with --warm: it computes the most used system prompts at its start",
            "keep --disk-cache on, so that a restart finds them",
        ),
        len(places),
        traffic.ids(places, cost_s[places]),
        saved_s,
        int(lost[places].sum()),
    )


def tools_change(traffic: Traffic) -> Iterator[ReportFinding]:
    """Conversations whose set of tools is not the one of the turn before."""
    places = np.flatnonzero(tools_changed(traffic))
    cost_s = traffic.read_s(traffic.lost_tokens)[places]
    if len(places) < MIN_REQUESTS or not traffic.matters(float(cost_s.sum())):
        return
    blocks = [traffic.names.block(text) for text, _ in traffic.groups(places, "blame")]
    yield ReportFinding(
        "tools_change",
        "Tools change between the turns of a conversation.",
        (
            f"{counted(len(places), 'request')} differ from the turn before in their tools",
            f"first at {', '.join(blocks[:5])}",
            f"{traffic.lost_tokens[places].sum():,.0f} tokens were computed again",
        ),
        (
            "let the client load all tools before its first turn: MCP servers that connect late"
            " change the list",
            "keep the order and the descriptions of tools the same from turn to turn",
        ),
        len(places),
        traffic.ids(places, cost_s),
        float(cost_s.sum()),
        int(traffic.lost_tokens[places].sum()),
    )


def tools_changed(traffic: Traffic) -> Array:
    """Whether the tools of each differ from those of the turn before."""
    is_tool = traffic.begins("blame", TOOLS)
    hashes = traffic.column("tools_hash")
    others = hashes != hashes[traffic.before]
    is_diverged = traffic.is_any("miss_reason", DIVERGED)
    return np.asarray(is_diverged & is_tool & others & (traffic.before >= 0) & traffic.computed)


def same_block(traffic: Traffic) -> Iterator[ReportFinding]:
    """Prompts that were like an earlier one up to the same block."""
    diverged = traffic.is_any("miss_reason", DIVERGED) & traffic.computed
    places = np.flatnonzero(diverged & ~tools_changed(traffic) & (traffic.lost_tokens > 0))
    cost_s = traffic.read_s(traffic.lost_tokens)
    for block, own in traffic.groups(places, "blame"):
        saved_s = float(cost_s[own].sum())
        if len(own) < MIN_REQUESTS or not traffic.matters(saved_s):
            continue
        shown = traffic.names.block(block)
        yield ReportFinding(
            "same_block",
            f"Prompts differ from earlier ones in the same block: {shown}.",
            (
                f"{counted(len(own), 'request')} had to compute what comes after {shown}",
                f"{traffic.lost_tokens[own].sum():,.0f} tokens of {traffic.new_tokens.sum():,.0f}"
                f" computed ones, {percent(saved_s, traffic.waited_s)} of the time of all requests",
            ),
            _block_advice(block),
            len(own),
            traffic.ids(own, cost_s[own]),
            saved_s,
            int(traffic.lost_tokens[own].sum()),
        )


def _block_advice(block: str) -> tuple[str, ...]:
    first = "mlxdeck inspect REQUEST shows the token; c in the dashboard compares two requests"
    if block == "system":
        return (
            "take what varies (a date, a path, an id) out of the system prompt, or put it last",
            "don't turn off rules by --canonical-off: they remove what varies without a meaning",
            first,
        )
    if block.startswith(TOOLS):
        return ("keep the description of this tool the same in all sessions", first)
    return (
        "let the client only append to a conversation: whatever changes an earlier message"
        " makes all that follows new",
        first,
    )


def evicted(traffic: Traffic) -> Iterator[ReportFinding]:
    """Prompts that were known, and were given up before they were asked again."""
    gone = traffic.is_any("miss_reason", "evicted") & traffic.computed
    places = np.flatnonzero(gone & (traffic.lost_tokens > 0))
    cost_s = traffic.read_s(traffic.lost_tokens)[places]
    if len(places) < MIN_REQUESTS or not traffic.matters(float(cost_s.sum())):
        return
    ticks = [row.tick for row in traffic.store.ticks]
    most_bytes = max((tick.prefix_bytes for tick in ticks), default=0)
    held = f"; the cache held {most_bytes / 2**20:,.0f} MiB at most" if most_bytes else ""
    partly = int((traffic.column("cache")[places] == PREFIX).sum())
    yield ReportFinding(
        "evicted",
        "Prompts are evicted from the cache, and asked again.",
        (
            f"{counted(len(places), 'request')} found their state evicted, {partly:,} in part",
            f"{traffic.lost_tokens[places].sum():,.0f} tokens were computed again{held}",
        ),
        (
            "raise --prefix-cache-bytes, as far as memory allows",
            "keep --disk-cache on: evicted states are read back from there",
            "mlxdeck why FILE says what each size would have given",
        ),
        len(places),
        traffic.ids(places, cost_s),
        float(cost_s.sum()),
        int(traffic.lost_tokens[places].sum()),
    )
