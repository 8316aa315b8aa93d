"""Requests grouped by the client's conversation: pure arithmetic over a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.batch import ERROR
from mlxdeck.telemetry.stats import HitRate, hit_rate
from mlxdeck.telemetry.store import Store

Rows = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Session:
    """What one conversation came to."""

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


def sessions(store: Store, rows: Rows) -> list[Session]:
    """The sessions of some requests, the one that was used last at the end."""
    numbers = store.column("session")[rows]
    found = []
    for number in np.unique(numbers):
        own = rows[numbers == number]
        own = own[np.argsort(store.column("start_ts")[own], kind="stable")]
        found.append(_session(store, store.strings[int(number)], own))
    return sorted(found, key=lambda session: session.last_ts)


def _session(store: Store, name: str, rows: Rows) -> Session:
    ended = store.column("end_ts")[rows]
    starts = store.column("start_ts")[rows]
    return Session(
        name=name,
        rows=rows,
        n_errors=int((store.column("outcome")[rows] == ERROR).sum()),
        n_tool_calls=int(store.column("n_tool_calls")[rows].sum()),
        input_tokens=int(store.column("input_tokens")[rows].sum()),
        output_tokens=int(store.column("output_tokens")[rows].sum()),
        hits=hit_rate(store, rows),
        busy_s=float(np.nansum(store.column("duration_s")[rows])),
        first_ts=float(starts[0]),
        last_ts=float(np.nanmax(np.concatenate([starts, ended[~np.isnan(ended)]]))),
    )


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
