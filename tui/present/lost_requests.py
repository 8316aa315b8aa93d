"""Requests without an end: those that were lost, and those whose last line may be a bad one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.read.tail import BadLine
from mlxdeck.telemetry.schema.figures import LOST
from mlxdeck.telemetry.store.store import Store


def lost_requests(
    store: Store, begun: Array, within: tuple[float, float], bad: Iterable[BadLine]
) -> tuple[Array, Array]:
    """Of requests that have begun by a moment: those that were lost, and those that may not be.

    The latter have a bad line behind their last one in the same file, which may be their end.
    """
    since_ts, now_ts = within
    begun = begun[store.column("start_ts")[begun] >= since_ts]
    gone = begun[store.column("outcome")[begun] == LOST]
    gone = gone[~store.later(gone, now_ts)]
    last_bad: dict[Path, int] = {}
    for line in bad:
        last_bad[line.path] = max(line.offset, last_bad.get(line.path, 0))
    unread = _before(store, gone, last_bad) if last_bad else np.zeros(len(gone), bool)
    return gone[~unread], gone[unread]


def _before(store: Store, rows: Array, last_bad: Mapping[Path, int]) -> Array:
    """Which requests' lines end before a bad line of their file."""
    bad = {store.strings.number(str(path)): offset for path, offset in last_bad.items()}
    offsets = np.full(len(store.strings), -1, np.int64)
    offsets[list(bad)] = list(bad.values())
    found = store.column("last_offset")[rows] < offsets[store.column("file")[rows]]
    for place in np.flatnonzero(np.isin(rows, list(store.in_several_files))).tolist():
        spans = store.spans(int(rows[place]))
        found[place] = any(each.last < last_bad.get(each.path, -1) for each in spans)
    return np.asarray(found)
