"""What caches saved in a window, which calls were made, what was refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array, Window, bounds
from mlxdeck.telemetry.analyze.token_costs import Saved, saved
from mlxdeck.telemetry.analyze.usage import CallTotals, call_totals
from mlxdeck.telemetry.schema.figures import ERROR
from mlxdeck.telemetry.store.store import Store

REFUSED = (429, 503, 529)
"""Statuses of requests that a server has no room for, or not now."""


@dataclass(frozen=True, slots=True)
class WindowUses:
    """Of the requests that ended in a window."""

    n_refused: int
    """Errors that are a lack of room, and so no fault of the request."""
    saved: Saved
    calls: CallTotals


def window_uses(
    store: Store, window: Window, now_s: float, mask: Array | None = None
) -> WindowUses:
    """Of all of them, or those of a mask."""
    rows = store.by_end.between(*bounds(store, window, now_s))
    rows = rows if mask is None else rows[mask[rows]]
    failed = rows[store.column("outcome")[rows] == ERROR]
    return WindowUses(
        n_refused=int(np.isin(store.column("status")[failed], REFUSED).sum()),
        saved=saved(store, rows),
        calls=call_totals(store, rows),
    )
