"""What a session cost and saved: figures of a stretch of telemetry, and as lines of text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array, Percentiles, hit_tokens, percentiles
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.schema.figures import CANCELLED, ERROR, EXACT, OK
from mlxdeck.telemetry.store.store import Store

MEMORY_TIERS = {"": "memory", "ram": "memory", "flight": "an answer under way"}
"""Names of tiers for a person; any other is its own."""


@dataclass(frozen=True, slots=True)
class ToolUses:
    """The calls of one tool."""

    n: int = 0
    n_unreadable: int = 0
    """The model's text could not be read as a call."""
    n_invalid: int = 0
    """The arguments don't conform to the tool's schema."""


@dataclass(frozen=True, slots=True)
class TierHits:
    """What one cache tier gave."""

    n_requests: int
    n_tokens: int
    """Prompt tokens."""


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
    rows = store.by_end.between(since_ts, until_ts)
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
        input_tokens=_sum(store, "input_tokens", rows),
        output_tokens=_sum(store, "output_tokens", rows),
        tiers=_tiers(store, rows),
        saved_s=_saved_s(store, rows),
        latency=percentiles(store.column("duration_s")[good]),
        ttft=percentiles(store.column("ttft_s")[good]),
        calls=_calls(store, rows),
    )


def _sum(store: Store, name: str, rows: Array) -> int:
    return int(summable(store.column(name)[rows]).astype(np.int64).sum())


def _tiers(store: Store, rows: Array) -> dict[str, TierHits]:
    exact, prefix = hit_tokens(store, rows)
    tokens = exact + prefix
    hit = (tokens > 0) | (store.column("cache")[rows] == EXACT)
    names = [MEMORY_TIERS.get(tier, tier) for tier in (store.text("tier", int(r)) for r in rows)]
    found: dict[str, TierHits] = {}
    for name, n_tokens in sorted(
        (names[place], int(tokens[place])) for place in np.flatnonzero(hit)
    ):
        so_far = found.get(name, TierHits(0, 0))
        found[name] = TierHits(so_far.n_requests + 1, so_far.n_tokens + n_tokens)
    return found


def _saved_s(store: Store, rows: Array) -> float:
    """What the known tokens would have taken at the speed of those that were computed."""
    exact, prefix = hit_tokens(store, rows)
    whole = store.column("cache")[rows] == EXACT
    told = rows[~whole & (store.column("outcome")[rows] == OK)]
    n_read = _sum(store, "input_tokens", told) - int(hit_tokens(store, told)[1].sum())
    n_written = _sum(store, "output_tokens", told)
    if not n_read or not n_written:
        return math.nan
    read_s = float(summable(store.column("prefill_s")[told]).sum()) / n_read
    write_s = float(summable(store.column("decode_s")[told]).sum()) / n_written
    n_repeated = _sum(store, "output_tokens", rows[whole])
    return float(exact.sum() + prefix.sum()) * read_s + n_repeated * write_s


def _calls(store: Store, rows: Array) -> dict[str, ToolUses]:
    wanted, found = set(rows.tolist()), dict[str, ToolUses]()
    for row in store.tool_calls:
        if row.row not in wanted:
            continue
        attrs = row.call
        so_far = found.get(attrs.name, ToolUses())
        found[attrs.name] = ToolUses(
            so_far.n + 1,
            so_far.n_unreadable + (not attrs.parse_ok),
            so_far.n_invalid + (attrs.schema_valid is False),
        )
    return dict(sorted(found.items(), key=lambda item: (-item[1].n, item[0])))


def session_summary(of: SessionFigures, recordings: Sequence[Path] = ()) -> list[str]:
    """Figures as lines for a terminal; a line says so if nothing was asked."""
    if not of.n_requests:
        return ["no requests in this session"]
    noun = "request" if of.n_requests == 1 else "requests"
    lines = [
        f"{_time(of.duration_s)}: {of.n_requests:,} {noun}, {of.input_tokens:,} tokens read, "
        f"{of.output_tokens:,} written"
    ]
    for name, values in (("latency", of.latency), ("first token", of.ttft)):
        if values.n:
            ranks = zip(("P50", "P95", "P99"), (values.p50, values.p95, values.p99), strict=True)
            lines.append(f"{name} " + ", ".join(f"{rank} {_time(value)}" for rank, value in ranks))
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
        f"{name} {hits.n_requests} of {of.n_requests} requests, {hits.n_tokens:,} tokens"
        for name, hits in of.tiers.items()
    ]
    saved = f", about {_time(of.saved_s)} saved" if of.saved_s > 0 else ""
    share = of.saved_tokens / of.input_tokens
    return [f"from cache {share:.0%} of the tokens read{saved}", *(f"  {each}" for each in tiers)]


def _told(name: str, calls: ToolUses) -> str:
    bad = [
        f"{n} {what}"
        for n, what in (
            (calls.n_unreadable, "unreadable"),
            (calls.n_invalid, "not as its schema says"),
        )
        if n
    ]
    return f"{name or '(no name)'} {calls.n}" + (f" ({', '.join(bad)})" if bad else "")


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest_s} s"
