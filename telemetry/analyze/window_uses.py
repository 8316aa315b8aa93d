"""What caches saved in a window, which calls were made, what was refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array, Window, bounds
from mlxdeck.telemetry.analyze.token_costs import Saved, SavedSums, costs_at
from mlxdeck.telemetry.analyze.usage import CallTotals, ToolUses, call_totals, tool_uses
from mlxdeck.telemetry.columns.growable_array import grown
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


class UsesSums:
    """These figures, added up in parts."""

    def __init__(self) -> None:
        self._n_refused = 0
        self._saved = SavedSums()
        self._added: Array = np.zeros(0, bool)
        """For each request whether it was added."""

    def add(self, store: Store, rows: Array) -> None:
        """More requests."""
        self._have_room(store)
        self._added[rows] = True
        failed = rows[store.column("outcome")[rows] == ERROR]
        self._n_refused += int(np.isin(store.column("status")[failed], REFUSED).sum())
        self._saved.add(store, rows)

    def found(self, store: Store, window: Window, now_s: float, mask: Array | None) -> WindowUses:
        """The figures of all that were added."""
        self._have_room(store)
        return WindowUses(
            self._n_refused,
            self._saved.worth(costs_at(store, now_s)),
            call_totals(store, self._added, now_s),
        )

    def _have_room(self, store: Store) -> None:
        if store.n > len(self._added):
            self._added = grown(self._added, len(self._added), store.n)


def window_uses(
    store: Store, window: Window, now_s: float, mask: Array | None = None
) -> WindowUses:
    """Of all of them, or those of a mask."""
    sums = UsesSums()
    sums.add(store, _ended(store, window, now_s, mask))
    return sums.found(store, window, now_s, mask)


def window_tools(
    store: Store, window: Window, now_s: float, mask: Array | None = None
) -> dict[str, ToolUses]:
    """The calls of each tool in a window, by requests that ended in it."""
    return tool_uses(store, _ended(store, window, now_s, mask), now_s)


def _ended(store: Store, window: Window, now_s: float, mask: Array | None) -> Array:
    rows = store.by_end.between(*bounds(store, window, now_s))
    return rows if mask is None else rows[mask[rows]]
