"""Which requests and tool calls are listed: those known at a moment that match a filter. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.analyze.time_series import EVERYTHING, View
from mlxdeck.telemetry.query.filters import Filter, FilterError, Typed, parse
from mlxdeck.telemetry.query.growing_mask import GrowingMask
from mlxdeck.telemetry.query.hints import Hints
from mlxdeck.telemetry.query.syntax import written
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

    def __init__(
        self,
        store: Store,
        kept: Mapping[str, str] | None = None,
        now: Callable[[], float] = lambda: math.nan,
    ) -> None:
        """`kept` are the filters that have names, `now` is the moment that is shown."""
        self._store = store
        self._kept = {} if kept is None else kept
        self._now = now
        self.text = ""
        """The filter in force; empty if everything matches."""
        self._asked = Filter()
        self._without: Filter | None = None
        """While a filter is typed, the same without the word at the cursor."""
        self._problem = ""
        """Why that word can't be understood."""
        self.order = ORDERS[0]
        self._chosen: Rows | None = None
        self._n_choices = 0
        self._hints = Hints(store, self._asked)
        self._use(Filter(), "")
        self._seen: Hashable = None
        self._view = EVERYTHING
        self.n_views = 0
        """How often a view was computed."""

    def set(self, text: str) -> None:
        """Filter by this from now on.

        Raises:
            FilterError: It can't be understood; the old one stays.
        """
        self._ask(parse(text, self._kept), None, "")
        self._use(self._asked, text.strip())

    def type(self, text: str, cursor: int) -> None:
        """Filter by what is typed so far, as far as it is finished.

        The word at the cursor counts if something matches it, and it may not become a field.

        Raises:
            FilterError: What is finished can't be understood; the old filter stays.
        """
        without = parse(text, self._kept, Typed(cursor, counts=False))
        try:
            asked, problem = parse(text, self._kept, Typed(cursor, counts=True)), ""
        except FilterError as error:
            asked, problem = without, str(error)
        self._ask(asked, without, problem)
        self.look_again()

    def _ask(self, asked: Filter, without: Filter | None, problem: str) -> None:
        if asked != self._asked:
            self._hints = Hints(self._store, asked)
        self._asked, self._without, self._problem = asked, without, problem
        self.choose(None)

    def choose(self, rows: Rows | None) -> None:
        """List just these of the requests that had begun, whatever the filter finds.

        Another filter ends it, and so does None.
        """
        is_same = rows is self._chosen or (
            rows is not None and self._chosen is not None and np.array_equal(rows, self._chosen)
        )
        if not is_same:
            self._chosen = None if rows is None else rows.copy()
            self._n_choices += 1

    @property
    def is_chosen(self) -> bool:
        """Whether requests are listed that were chosen one by one."""
        return self._chosen is not None

    def look_again(self) -> None:
        """A search has found more: the word that is being typed may count now."""
        without = self._without
        if without is None:
            return
        self._use(self._asked, written(self._asked.node))
        if self._asked.node != without.node and not self._matches_some():
            self._use(without, written(without.node))

    def _use(self, wanted: Filter, text: str) -> None:
        if text and text == self.text:
            return
        self._filter, self.text = wanted, text if wanted.node else ""
        self._mask = GrowingMask(self._store, wanted)

    def _matches_some(self) -> bool:
        mask = self.mask
        return mask is None or bool(mask.any())

    @property
    def said(self) -> frozenset[str]:
        """Texts to search for in captured content."""
        return self._asked.said

    @property
    def mask(self) -> Rows | None:
        """For each row of the store whether it matches; None if everything does."""
        if self._chosen is not None:
            mask = np.zeros(self._store.n, bool)
            mask[self._chosen] = True
            return mask
        return self._mask.at(self._now()) if self.text else None

    def advance(self) -> bool:
        """Look for what matches among some rows more; return whether all are known."""
        return self.is_chosen or not self.text or self._mask.advance(self._now())

    @property
    def version(self) -> object:
        """While this value is the same, the list at a moment is the same."""
        return self._store.n_lines, self.order, self._key

    @property
    def _key(self) -> Hashable:
        """While this value is the same, what matches only changes by what is new."""
        if self._chosen is not None:
            return self._n_choices
        return self.text, self._mask.key(self._now())

    def view_at(self, as_of_ts: float = math.inf) -> View:
        """The filter for computed figures, with a key that changes when its result may change.

        Requests that ended later match as they did while they ran.
        """
        if not self.text and not self.is_chosen:
            return EVERYTHING
        # Every part of a drawing asks.
        asked = (self._key, as_of_ts, self._store.n_lines, self._store.n_open)
        if asked != self._seen:
            mask, others = self._as_of(as_of_ts)
            self._seen, self._view = asked, View(mask, (self._key, others))
            self.n_views += 1
        return self._view

    @property
    def hint(self) -> str:
        """A value that no request has, or what is not finished; empty if there is none."""
        if self.is_chosen:
            return "those behind the line at the top"
        told = self._problem or self._hints.at(self._now())
        is_left_out = self._filter.node != self._asked.node
        return told or ("nothing matches the last word" if is_left_out else "")

    def rows(self, as_of_ts: float = math.inf, below: int | None = None) -> Rows:
        """Requests that had begun by `as_of_ts`, in the chosen order.

        With `below`, only rows with a lower number.
        """
        rows = self._store.by_start.between(-math.inf, as_of_ts)
        if below is not None:
            rows = rows[rows < below]
        if (mask := self.view_at(as_of_ts).mask) is not None:
            rows = rows[mask[rows]]
        # A copy: the index keeps changing while a view is in use.
        return self._ordered(rows, as_of_ts) if self.order.column else rows.copy()

    def _as_of(self, as_of_ts: float) -> tuple[Rows | None, bytes]:
        """The mask as of a moment, and in which requests it differs from that of now."""
        mask = self.mask
        if mask is None or math.isinf(as_of_ts) or self.is_chosen:
            return mask, b""
        later = self._store.ended_after(as_of_ts)
        if not len(later):
            return mask, b""
        # How they ended was not known then.
        then = self._filter.mask(self._store.running(later), self._now())
        others = later[then != mask[later]]
        if len(others):
            mask = mask.copy()
            mask[others] = ~mask[others]
        return mask, others.tobytes()

    def _ordered(self, rows: Rows, as_of_ts: float) -> Rows:
        """Sorted by a figure, the lowest first; unknown figures come before all others."""
        values = self._store.column(self.order.column)[rows].astype(np.float32)
        if not math.isinf(as_of_ts):
            values[self._store.later(rows, as_of_ts)] = np.nan
        # One request after the other where figures are the same.
        return rows[np.argsort(np.nan_to_num(values, nan=-1.0), kind="stable")]

    def calls(self, as_of_ts: float = math.inf) -> Rows:
        """The numbers of the tool calls that were made by then."""
        calls, mask = self._store.tool_calls, self.view_at(as_of_ts).mask
        n_known = calls.until(as_of_ts)
        numbers = calls.numbers[:n_known]
        if mask is None:
            return numbers
        return numbers[mask[calls.owners[:n_known]]]
