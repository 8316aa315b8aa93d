"""Which requests and tool calls are listed: those known at a moment that match a filter. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.time_series import EVERYTHING, View
from mlxdeck.telemetry.query.filters import Filter, parse
from mlxdeck.telemetry.store.store import Store

Rows = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class SortOrder:
    """What requests are listed by, the highest first."""

    column: str
    title: str
    """Of the column, as the table shows it."""
    first: str
    """Name of the first request in this order."""


ORDERS = (
    SortOrder("", "time", "newest"),
    SortOrder("duration_s", "total", "slowest"),
    SortOrder("ttft_s", "ttft", "latest first token"),
    SortOrder("input_tokens", "in", "longest prompt"),
    SortOrder("output_tokens", "out", "longest answer"),
)


class RequestQuery:
    """A view of a store. Calls are in the order of time, oldest first, as rows are by default."""

    def __init__(self, store: Store, kept: Mapping[str, str] | None = None) -> None:
        """`kept` are the filters that have names."""
        self._store = store
        self._kept = {} if kept is None else kept
        self.text = ""
        self.order = ORDERS[0]
        self._filter: Filter = parse("")
        self._mask_of: object = None
        self._mask = np.zeros(0, bool)

    def set(self, text: str) -> None:
        """Filter by this from now on.

        Raises:
            FilterError: It can't be understood; the old one stays.
        """
        self._filter = parse(text, self._kept)
        self.text = text.strip()
        self._mask_of = None

    @property
    def said(self) -> frozenset[str]:
        """Texts to search for in captured content."""
        return self._filter.said

    @property
    def mask(self) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """For each row of the store whether it matches; None if everything does."""
        if not self.text:
            return None
        if self._mask_of != self.version:
            self._mask, self._mask_of = self._filter.mask(self._store), self.version
        return self._mask

    @property
    def version(self) -> object:
        """While this value is the same, the list at a moment is the same."""
        return self._store.n_lines, self._store.n_found, self.text, self.order

    @property
    def view(self) -> View:
        """The filter for computed figures, with a key that changes when its result may change."""
        return View(self.mask, (self.text, self._store.n_found)) if self.text else EVERYTHING

    def rows(self, as_of_ts: float = math.inf, below: int | None = None) -> Rows:
        """Requests that had begun by `as_of_ts`, in the chosen order.

        With `below`, only rows with a lower number.
        """
        rows = self._store.by_start.between(-math.inf, as_of_ts)
        if below is not None:
            rows = rows[rows < below]
        later = np.zeros(len(rows), bool)
        if not math.isinf(as_of_ts):
            later = self._store.later(rows, as_of_ts)
        mask = self.mask
        if mask is not None:
            chosen = mask[rows]
            if later.any():
                # How they ended was not known then.
                chosen[later] = self._filter.mask(self._store.running(rows[later]))
            rows, later = rows[chosen], later[chosen]
        # A copy: the index keeps changing while a view is in use.
        return self._ordered(rows, later) if self.order.column else rows.copy()

    def _ordered(self, rows: Rows, later: Rows) -> Rows:
        """Sorted by a figure, the lowest first; unknown figures come before all others."""
        values = self._store.column(self.order.column)[rows].astype(np.float32)
        values[later] = np.nan
        # One request after the other where figures are the same.
        return rows[np.argsort(np.nan_to_num(values, nan=-1.0), kind="stable")]

    def calls(self, as_of_ts: float = math.inf) -> Rows:
        """The numbers of the tool calls that were made by then."""
        calls, mask = self._store.tool_calls, self.mask
        n_known = calls.until(as_of_ts)
        numbers = calls.numbers[:n_known]
        if mask is None:
            return numbers
        return numbers[mask[calls.owners[:n_known]]]
