"""What a session cost and saved: figures of a stretch of telemetry, and as lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdeck.telemetry.analyze.selection import told_ends
from mlxdeck.telemetry.analyze.sentences import counted, span
from mlxdeck.telemetry.analyze.stats import Percentiles, percentiles
from mlxdeck.telemetry.analyze.token_costs import saved, total
from mlxdeck.telemetry.analyze.usage import TierHits, ToolUses, tier_hits, tool_uses
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.schema.figures import CANCELLED, ERROR, OK
from mlxdeck.telemetry.store.store import Store


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """The figures of a session. Requests count that ended in it."""

    duration_s: float
    n_requests: int
    n_cancelled: int
    errors: Mapping[str, int]
    """How many of each type."""
    input_tokens: int
    output_tokens: int
    tiers: Mapping[str, TierHits]
    """What came from a cache, by the name of its tier."""
    saved_s: float
    """Estimated time that the caches saved; NaN if nothing was computed to compare with."""
    latency: Percentiles
    """Of requests that succeeded, in seconds."""
    ttft: Percentiles
    """Time to their first token, in seconds."""
    calls: Mapping[str, ToolUses]
    """Tool calls by the tool's name; those that name none are below an empty one."""

    @property
    def saved_tokens(self) -> int:
        """Prompt tokens that were not computed."""
        return sum(tier.n_tokens for tier in self.tiers.values())


def read(paths: Sequence[Path]) -> Store:
    """Everything that the newest stream of each place holds by now."""
    tail, store = Tail(paths), Store()
    while store.feed(tail.poll()):
        pass
    tail.close()
    return store


def summary_of(folder: Path, since_ts: float, until_ts: float) -> list[str]:
    """What the newest stream in a folder tells of the time between two moments."""
    tail, store = Tail([folder]), Store()
    while store.feed(tail.poll()):
        pass
    recordings = [path for path in tail.following if path.is_file()]
    tail.close()
    return session_summary(session_figures(store, since_ts, until_ts), recordings)


def session_figures(store: Store, since_ts: float, until_ts: float) -> SessionFigures:
    """The figures of the requests that ended between two moments."""
    rows = told_ends(store, store.by_end.between(since_ts, until_ts))
    outcome = store.column("outcome")[rows]
    good = rows[outcome == OK]
    errors = Counter(
        store.text("error_type", int(row)) or "error" for row in rows[outcome == ERROR]
    )
    return SessionFigures(
        duration_s=until_ts - since_ts,
        n_requests=len(rows),
        n_cancelled=int((outcome == CANCELLED).sum()),
        errors=dict(errors.most_common()),
        input_tokens=total(store, "input_tokens", rows),
        output_tokens=total(store, "output_tokens", rows),
        tiers=tier_hits(store, rows),
        saved_s=saved(store, rows).seconds,
        latency=percentiles(store.column("duration_s")[good]),
        ttft=percentiles(store.column("ttft_s")[good]),
        calls=tool_uses(store, rows),
    )


def session_summary(of: SessionFigures, recordings: Sequence[Path] = ()) -> list[str]:
    """Figures as lines for a terminal; a line says so if nothing was asked."""
    if not of.n_requests:
        return ["no requests in this session"]
    lines = [
        f"{span(of.duration_s)}: {counted(of.n_requests, 'request')},"
        f" {counted(of.input_tokens, 'token')} read, "
        f"{of.output_tokens:,} written"
    ]
    for name, values in (("latency", of.latency), ("first token", of.ttft)):
        if values.n:
            ranks = zip(("P50", "P95", "P99"), (values.p50, values.p95, values.p99), strict=True)
            lines.append(f"{name} " + ", ".join(f"{rank} {span(value)}" for rank, value in ranks))
    lines += _cache_lines(of)
    if of.calls:
        lines.append("tool calls: " + ", ".join(_told(*item) for item in of.calls.items()))
    if of.errors or of.n_cancelled:
        ends = {**of.errors, **({"cancelled": of.n_cancelled} if of.n_cancelled else {})}
        lines.append("errors: " + ", ".join(f"{kind} {n}" for kind, n in ends.items()))
    return [*lines, *(f"recorded in {path}" for path in recordings)]


def _cache_lines(of: SessionFigures) -> list[str]:
    if not of.input_tokens:
        return []
    tiers = [
        f"{name} {hits.n_requests:,} of {counted(of.n_requests, 'request')},"
        f" {counted(hits.n_tokens, 'token')}"
        for name, hits in of.tiers.items()
    ]
    saved = f", about {span(of.saved_s)} saved" if of.saved_s > 0 else ""
    share = of.saved_tokens / of.input_tokens
    return [f"from cache {share:.0%} of the tokens read{saved}", *(f"  {each}" for each in tiers)]


def _told(name: str, calls: ToolUses) -> str:
    bad = [
        f"{n} {what}"
        for n, what in (
            (calls.n_unreadable, "unreadable"),
            (calls.n_invalid, "not as its schema says"),
            (calls.n_failed, "failed"),
        )
        if n
    ]
    return f"{name or '(no name)'} {calls.n}" + (f" ({', '.join(bad)})" if bad else "")
