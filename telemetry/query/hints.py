"""Words about a filter that is understood, but finds nothing: a value that no request has. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mlxdeck.telemetry.analyze.sentences import dated, percent, span
from mlxdeck.telemetry.query.completion import known_values
from mlxdeck.telemetry.query.fields import FIELDS
from mlxdeck.telemetry.query.filters import Filter
from mlxdeck.telemetry.query.growing_mask import GrowingMask
from mlxdeck.telemetry.query.lexer import Kind
from mlxdeck.telemetry.query.measures import interval
from mlxdeck.telemetry.query.parser import no_value
from mlxdeck.telemetry.query.syntax import Term, terms
from mlxdeck.telemetry.store.store import Store

_SHOWN: Mapping[Kind, Callable[[float], str]] = {
    "seconds": span,
    "count": lambda value: f"{value:,.0f}",
    "share": lambda value: percent(value, 1),
}


class Hints:
    """About one filter over a store that grows: each look is at what is new alone."""

    def __init__(self, store: Store, wanted: Filter) -> None:
        self._store = store
        self._terms = [_TermHint(store, term) for term in terms(wanted.node)]

    def at(self, now_ts: float = math.nan) -> str:
        """The first value that no request has, and what there is; empty if there is none.

        Words alone are left out: there, to find nothing is an answer. So is a store without
        requests.
        """
        if not self._store.n:
            return ""
        return next(filter(None, (each.at(now_ts) for each in self._terms)), "")

    @property
    def n_looked(self) -> int:
        """Rows that were looked at, by the term that had to look at most."""
        return max((each.n_looked for each in self._terms), default=0)


class _TermHint:
    def __init__(self, store: Store, term: Term) -> None:
        self._store, self._term = store, term
        self._field = FIELDS[term.name or "text"]
        self._mask = GrowingMask(store, Filter(term))
        self._key: object = None
        self._told = ""

    def at(self, now_ts: float) -> str:
        field = self._field
        if field.kind == "time" or field.moves and field.numbers is not None:
            return self._of_times(now_ts)
        if not (field.columns or field.numbers) or self._mask.at(now_ts).any():
            return ""
        if (key := (self._store.n_lines, self._mask.key(now_ts))) != self._key:
            # As long as nothing is found, what there is has to be looked up.
            self._key = key
            self._told = self._of_numbers(now_ts) if field.numbers else self._of_texts()
        return self._told

    @property
    def n_looked(self) -> int:
        return self._mask.n_looked

    def _of_texts(self) -> str:
        name, texts = self._term.name, [value.text for value in self._term.values if value.text]
        if not texts:
            return ""
        return no_value(name, "|".join(texts), known_values(self._field, self._store))

    def _of_numbers(self, now_ts: float) -> str:
        field, name = self._field, self._term.name
        assert field.numbers is not None
        values = field.numbers(self._store, now_ts)
        known = values[~np.isnan(values)]
        if not len(known):
            return f"{name}: not known of any request"
        low, high = (_SHOWN[field.kind](float(value)) for value in (known.min(), known.max()))
        return f"{name}: all have {low}" if low == high else f"{name}: there are {low} to {high}"

    def _of_times(self, now_ts: float) -> str:
        starts, term = self._store.by_start.times, self._term
        if math.isnan(now_ts):
            now_ts = float(starts[-1])
        for value in term.values:
            low, high, _ = interval(self._field.kind, term.sign, value.text)(now_ts)
            if self._field.moves:
                # It is counted back from now.
                low, high = now_ts - high, now_ts - low
            first, last = np.searchsorted(starts, low), np.searchsorted(starts, high, side="right")
            if last > first:
                return ""
        first_ts, last_ts = (dated(float(starts[place])) for place in (0, -1))
        return f"{term.name}: nothing began then; requests began from {first_ts} to {last_ts}"
