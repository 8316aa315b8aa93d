"""Why requests had to read what a cache might have known, in a few words."""

from __future__ import annotations

import numpy as np

from mlxdeck.telemetry.analyze.group_totals import Rows, missed
from mlxdeck.telemetry.store.store import Store

MAX_REASONS = 2


def misses_in_words(store: Store, rows: Rows, as_of_ts: float) -> str:
    """`3 missed: 2 parted in system, 1 cold`; the most frequent reasons first."""
    own = rows[missed(store, rows) & ~store.later(rows, as_of_ts)]
    if not len(own):
        return "nothing missed"
    blames = store.column("blame")[own]
    told = [(n, f"parted in {name}") for n, name in _counts(store, blames[blames > 0])]
    reasons = store.column("miss_reason")[own[blames == 0]]
    told += [(n, name.replace("_", " ")) for n, name in _counts(store, reasons)]
    told.sort(reverse=True)
    parts = [f"{n:,} {name}" for n, name in told[:MAX_REASONS]]
    if rest := sum(n for n, _ in told[MAX_REASONS:]):
        parts.append(f"{rest:,} others")
    return f"{len(own):,} missed: {', '.join(parts)}"


def _counts(store: Store, numbers: Rows) -> list[tuple[int, str]]:
    """How often each text is there, by its number."""
    counts = np.bincount(numbers) if len(numbers) else np.zeros(0, np.int64)
    return [(int(counts[each]), store.strings[each]) for each in np.flatnonzero(counts).tolist()]
