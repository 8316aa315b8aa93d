"""Tokens counted when they come: by what requests reported while they ran, the rest at their end.

Pure functions of a store. Requests that reported nothing, as fast ones do, count at their end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import EXACT, LOST
from mlxdeck.telemetry.store.progress_history import FLOWS
from mlxdeck.telemetry.store.store import Store

Array = np.ndarray[Any, np.dtype[Any]]
RATE_S = 10.0
"""A speed of this moment is that of so many seconds."""


def judged_tokens(store: Store, rows: Array) -> Array:
    """Prompt tokens per row, as far as it is known how many of them came from a cache."""
    tokens, cached = (
        summable(store.column("input_tokens")[rows]),
        store.column("cached_tokens")[rows],
    )
    if len(cached) and cached.min() < 0:
        tokens[(cached < 0) & (store.column("cache")[rows] != EXACT)] = 0
    return tokens


def at_end(store: Store, rows: Array, judged: Array) -> dict[str, Array]:
    """Of requests that ended the tokens of each of `FLOWS` that count only at their end.

    `judged` are their `judged_tokens`.
    """
    known = summable(store.column("cached_tokens")[rows])
    computed = np.subtract(judged, known, out=known)
    found = {
        "output": summable(store.column("output_tokens")[rows]),
        "computed": np.maximum(computed, 0, out=computed),
    }
    if len(store.progress):
        for name in FLOWS:
            found[name] = np.maximum(found[name] - store.progress.counted(name, rows), 0)
    # What was lost did not go any further.
    is_lost = store.column("outcome")[rows] == LOST
    if is_lost.any():
        for values in found.values():
            values[is_lost] = 0
    return found


def while_running(store: Store, points: slice, mask: Array | None) -> dict[str, Array]:
    """The tokens of each of `FLOWS` that came with some points; 0 for those of other requests."""
    history = store.progress
    found = {name: history.flow(name)[points] for name in FLOWS}
    if mask is None or not len(history):
        return found
    chosen = mask[history.rows[points]]
    return {name: np.where(chosen, values, 0) for name, values in found.items()}


def tokens_between(
    store: Store, start_ts: float, end_ts: float, mask: Array | None = None
) -> dict[str, int]:
    """The tokens of each of `FLOWS` that came between two moments, both included."""
    rows = store.by_end.between(start_ts, end_ts)
    rows = rows if mask is None else rows[mask[rows]]
    ended = at_end(store, rows, judged_tokens(store, rows))
    running = while_running(store, store.progress.between(start_ts, end_ts), mask)
    return {
        name: int(ended[name].sum(dtype=np.int64) + running[name].sum(dtype=np.int64))
        for name in FLOWS
    }


def output_tokens_per_s(store: Store, now_s: float, mask: Array | None = None) -> float:
    """How fast tokens are being written at a moment."""
    return tokens_between(store, now_s - RATE_S, now_s, mask)["output"] / RATE_S
