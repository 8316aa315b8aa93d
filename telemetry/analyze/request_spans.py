"""When requests waited, read and wrote, for pictures of how they overlap. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlxdeck.telemetry.analyze.running_progress import running_progress
from mlxdeck.telemetry.schema.figures import LOST, OPEN
from mlxdeck.telemetry.store.store import Store

Array = np.ndarray[Any, np.dtype[Any]]
MAX_SPANS = 500
MAX_BEGUN = 2_000
"""So many of those that began last are looked at for ones that still run."""


class RequestSpan(NamedTuple):
    """One request; all moments in Unix seconds."""

    row: int
    start_ts: float
    read_ts: float
    """When its prompt began to be read; before, it waited."""
    write_ts: float
    """When it began to be written."""
    end_ts: float
    """When it ended; the shown moment if it still runs."""
    runs: bool = False


def request_spans(
    store: Store, start_ts: float, now_ts: float, mask: Array | None = None
) -> list[RequestSpan]:
    """Requests that ran between two moments, by their start; of many, those that ended last."""
    ended = store.by_end.between(start_ts, now_ts)
    running = still_running(store, store.by_start.between(-np.inf, now_ts)[-MAX_BEGUN:], now_ts)
    if mask is not None:
        ended, running = ended[mask[ended]], running[mask[running]]
    found = [_running(store, row, now_ts) for row in running[-MAX_SPANS:].tolist()]
    found += [_ended(store, row) for row in ended[-MAX_SPANS:].tolist()]
    return sorted(found, key=lambda span: (span.start_ts, span.row))


def still_running(store: Store, begun: Array, now_ts: float) -> Array:
    """Those of some requests, which had begun by a moment, that had not ended by then."""
    runs = store.later(begun, now_ts) | (store.column("outcome")[begun] == OPEN)
    return np.asarray(begun[runs])


def _ended(store: Store, row: int) -> RequestSpan:
    """From its end back: what is not known took no time."""
    start_ts, end_ts = (float(store.column(name)[row]) for name in ("start_ts", "end_ts"))
    if store.column("outcome")[row] == LOST:
        return _running(store, row, end_ts)._replace(runs=False)
    decode_s, prefill_s = (
        max(0.0, float(np.nan_to_num(store.column(name)[row])))
        for name in ("decode_s", "prefill_s")
    )
    write_ts = max(start_ts, end_ts - decode_s)
    return RequestSpan(row, start_ts, max(start_ts, write_ts - prefill_s), write_ts, end_ts)


def _running(store: Store, row: int, now_ts: float) -> RequestSpan:
    start_ts = float(store.column("start_ts")[row])
    of = running_progress(store, row, now_ts)
    since_ts = now_ts if of is None else max(start_ts, now_ts - of.state_s)
    if of is not None and of.state == "decode":
        return RequestSpan(row, start_ts, start_ts, since_ts, now_ts, runs=True)
    if of is not None and of.state == "prefill":
        return RequestSpan(row, start_ts, since_ts, now_ts, now_ts, runs=True)
    return RequestSpan(row, start_ts, now_ts, now_ts, now_ts, runs=True)
