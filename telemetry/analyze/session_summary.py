"""A short text summary of a range of telemetry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlxdeck.telemetry.analyze.stats import Window, summary
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.store.store import Store


def read(paths: Sequence[Path]) -> Store:
    """Everything that the newest stream of each place holds by now."""
    tail, store = Tail(paths), Store()
    while store.feed(tail.poll()):
        pass
    tail.close()
    return store


def session_summary(store: Store, since_ts: float, now_ts: float) -> list[str]:
    """How a session went; a line says so if nothing was asked in it."""
    total = summary(store, Window("session", now_ts - since_ts), now_ts)
    if not total.n_requests:
        return ["no requests in this session"]
    duration, hits = total.duration, total.hits
    lines = [
        f"{total.n_requests} requests, {total.n_errors} errors, {total.n_tool_calls} tool calls",
        f"{total.input_tokens:,} tokens read, {total.output_tokens:,} written",
    ]
    if duration.n:
        lines.append(
            f"latency P50 {duration.p50:.2f} s, P95 {duration.p95:.2f} s, "
            f"first token P50 {total.ttft_p50:.2f} s"
        )
    if total.input_tokens:
        lines.append(
            f"from cache {hits.total:.0%} of the tokens: "
            f"{hits.exact:.0%} as whole answers, {hits.prefix:.0%} as prefixes"
        )
    return lines
