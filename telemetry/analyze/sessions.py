"""Requests grouped by the client's conversation: pure arithmetic over a store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.stats import HitRate, hit_tokens, judged_tokens
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import ERROR
from mlxdeck.telemetry.store.store import Store

NOTHING_KNOWN = HitRate(math.nan, math.nan)
Rows = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Session:
    """Totals of one conversation."""

    name: str
    """The client's own; empty for requests of clients that name none."""
    rows: Rows
    """Its requests, oldest first."""
    n_errors: int
    n_tool_calls: int
    input_tokens: int
    output_tokens: int
    hits: HitRate
    busy_s: float
    """The sum of its requests' durations."""
    first_ts: float
    last_ts: float


def _sums(begins: Rows, known: Rows, values: Rows) -> list[Any]:
    """The sum of what is known of each group of rows."""
    found: list[Any] = np.add.reduceat(np.where(known, values, 0), begins).tolist()
    return found


def sessions(store: Store, rows: Rows, as_of_ts: float = math.inf) -> list[Session]:
    """The sessions of some requests, the one that was used last at the end.

    Of a request that ended after `as_of_ts`, only its start counts.
    """
    if not len(rows):
        return []
    starts = store.column("start_ts")[rows]
    order = np.lexsort((starts, store.column("session")[rows]))
    rows, starts = rows[order], starts[order]
    numbers = store.column("session")[rows]
    begins = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))

    known = ~store.later(rows, as_of_ts)
    sums = partial(_sums, begins, known)
    exact, prefix = hit_tokens(store, rows)
    ended = np.where(known, np.fmax(starts, store.column("end_ts")[rows]), starts)
    columns = zip(
        np.split(rows, begins[1:]),
        sums(store.column("outcome")[rows] == ERROR),
        sums(summable(store.column("n_tool_calls")[rows]).astype(np.int64)),
        sums(summable(store.column("input_tokens")[rows]).astype(np.int64)),
        sums(summable(store.column("output_tokens")[rows]).astype(np.int64)),
        sums(judged_tokens(store, rows).astype(np.int64)),
        sums(exact.astype(np.int64)),
        sums(prefix.astype(np.int64)),
        sums(np.nan_to_num(store.column("duration_s")[rows].astype(np.float64))),
        starts[begins].tolist(),
        np.maximum.reduceat(ended, begins).tolist(),
        strict=True,
    )
    found = [
        Session(
            name=store.text("session", int(own[0])),
            rows=own,
            n_errors=n_errors,
            n_tool_calls=n_calls,
            input_tokens=read,
            output_tokens=written,
            hits=HitRate(repeated / judged, known / judged) if judged else NOTHING_KNOWN,
            busy_s=busy_s,
            first_ts=first_ts,
            last_ts=last_ts,
        )
        for (
            own,
            n_errors,
            n_calls,
            read,
            written,
            judged,
            repeated,
            known,
            busy_s,
            first_ts,
            last_ts,
        ) in columns
    ]
    return sorted(found, key=lambda session: session.last_ts)


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Requests that failed in the same way."""

    kind: str
    n: int
    last_row: int
    last_ts: float


def error_groups(store: Store, rows: Rows) -> list[ErrorGroup]:
    """The failures among some requests by type, the latest at the end."""
    failed = rows[store.column("outcome")[rows] == ERROR]
    kinds = store.column("error_type")[failed]
    groups = []
    for kind in np.unique(kinds):
        own = failed[kinds == kind]
        last = own[int(np.argmax(store.column("end_ts")[own]))]
        last_ts = float(store.column("end_ts")[last])
        groups.append(ErrorGroup(store.strings[int(kind)], len(own), int(last), last_ts))
    return sorted(groups, key=lambda group: group.last_ts)
