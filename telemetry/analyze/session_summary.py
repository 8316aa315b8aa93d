"""What a session cost and saved: figures of a stretch of telemetry, and as lines of text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxdeck.telemetry.analyze.selection import told_ends
from mlxdeck.telemetry.analyze.sentences import counted, span
from mlxdeck.telemetry.analyze.stats import HitRate, Percentiles, hit_rate, percentiles
from mlxdeck.telemetry.analyze.token_costs import saved, total
from mlxdeck.telemetry.analyze.usage import TierHits, ToolUses, tier_hits, tool_uses
from mlxdeck.telemetry.read.line_buffer import MAX_LINE_BYTES
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema.figures import CANCELLED, ERROR, LOST, OK, OPEN
from mlxdeck.telemetry.schema.file_names import stream_files
from mlxdeck.telemetry.schema.server_events import StreamStart
from mlxdeck.telemetry.store.store import Store

FILE_CLOCK_S = 1.0
"""The times of files may lag behind the clock that begins a session."""


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """The figures of a session. Requests count that ended in it."""

    duration_s: float
    n_requests: int
    n_unended: int
    """Requests that began in it and have no end: lost with their server, or still running."""
    n_cancelled: int
    errors: Mapping[str, int]
    """How many of each type."""
    input_tokens: int
    output_tokens: int
    hits: HitRate
    tiers: Mapping[str, TierHits]
    """What came from a cache, by the name of its tier."""
    saved_s: float
    """Estimated time that the caches saved; NaN if too little was computed to compare with."""
    latency: Percentiles
    """Of requests that succeeded, in seconds."""
    ttft: Percentiles
    """Time to their first token, in seconds."""
    calls: Mapping[str, ToolUses]
    """Tool calls by the tool's name; those that name none are below an empty one."""


def read(paths: Sequence[Path]) -> Store:
    """Everything that the newest stream of each place holds by now."""
    tail, store = Tail(paths), Store()
    while store.feed(tail.poll()):
        pass
    tail.close()
    return store


def summary_of(folder: Path, since_ts: float, until_ts: float, port: int) -> list[str]:
    """What the server at a port tells in a folder of the time between two moments.

    It may have been started again meanwhile, or have begun another file.
    """
    recordings = _recordings(folder, since_ts, port)
    return session_summary(session_figures(read(recordings), since_ts, until_ts), recordings)


def _recordings(folder: Path, since_ts: float, port: int) -> list[Path]:
    """What was written since a moment, without the files of servers at other ports."""
    written = stream_files(folder) if folder.is_dir() else []
    return [path for path in written if _last_ts(path) >= since_ts and told_port(path) in (0, port)]


def _last_ts(path: Path) -> float:
    try:
        return path.stat().st_mtime + FILE_CLOCK_S
    except OSError:
        # Another process removed it in the meantime.
        return -math.inf


def told_port(path: Path) -> int:
    """Where the server listened that wrote a file; 0 if its first line does not say."""
    try:
        with path.open("rb") as file:
            header = codec.decode(file.readline(MAX_LINE_BYTES)).attrs
    except (OSError, codec.Unreadable):
        return 0
    return header.server_port if isinstance(header, StreamStart) else 0


def session_figures(store: Store, since_ts: float, until_ts: float) -> SessionFigures:
    """The figures of the requests that ended between two moments."""
    rows = told_ends(store, store.by_end.between(since_ts, until_ts))
    begun, outcomes = store.by_start.between(since_ts, until_ts), store.column("outcome")
    outcome = outcomes[rows]
    good = rows[outcome == OK]
    errors = Counter(
        store.text("error_type", int(row)) or "error" for row in rows[outcome == ERROR]
    )
    return SessionFigures(
        duration_s=until_ts - since_ts,
        n_requests=len(rows),
        n_unended=int(np.isin(outcomes[begun], (LOST, OPEN)).sum()),
        n_cancelled=int((outcome == CANCELLED).sum()),
        errors=dict(errors.most_common()),
        input_tokens=total(store, "input_tokens", rows),
        output_tokens=total(store, "output_tokens", rows),
        hits=hit_rate(store, rows),
        tiers=tier_hits(store, rows),
        saved_s=saved(store, rows, until_ts).seconds,
        latency=percentiles(store.column("duration_s")[good]),
        ttft=percentiles(store.column("ttft_s")[good]),
        calls=tool_uses(store, rows),
    )


def session_summary(of: SessionFigures, recordings: Sequence[Path] = ()) -> list[str]:
    """Figures as lines for a terminal; a line says so if nothing was asked."""
    unended = f"no end is recorded of {counted(of.n_unended, 'request')}"
    if not of.n_requests and of.n_unended:
        return [unended, *(f"recorded in {path}" for path in recordings)]
    if not of.n_requests:
        return ["no requests recorded in this session"]
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
    lines += [unended] if of.n_unended else []
    return [*lines, *(f"recorded in {path}" for path in recordings)]


def _cache_lines(of: SessionFigures) -> list[str]:
    if math.isnan(of.hits.total):
        return []
    tiers = [
        f"{name} {hits.n_requests:,} of {counted(of.n_requests, 'request')},"
        f" {counted(hits.n_tokens, 'token')}"
        for name, hits in of.tiers.items()
    ]
    saved = f", about {span(of.saved_s)} saved" if of.saved_s > 0 else ""
    return [
        f"from cache {of.hits.total:.0%} of the tokens read{saved}",
        *(f"  {each}" for each in tiers),
    ]


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
