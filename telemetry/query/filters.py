"""The dashboard's filter language: one line to a mask over the rows of a store. Pure.

    tool:Read status:error latency>2s (hit<0.5 or tokens_in>8k) not session:abc text:"a b"

Terms are joined by `and` where nothing stands between them; `-` before one is `not`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.query.fields import FIELDS, Field
from mlxdeck.telemetry.query.lexer import Value
from mlxdeck.telemetry.query.measures import interval
from mlxdeck.telemetry.query.parser import FilterError as FilterError
from mlxdeck.telemetry.query.parser import Parser
from mlxdeck.telemetry.query.parser import Typed as Typed
from mlxdeck.telemetry.query.patterns import KNOWN, TextPattern, part, pattern
from mlxdeck.telemetry.query.syntax import And, Node, Not, Or, Term, terms, written
from mlxdeck.telemetry.store.table import Table

Look = Callable[[Table, float], GrowableArray]
"""For each row as of a moment whether it is so."""
NAME = re.compile(r"[\w-]+")
"""Of a filter that is kept."""
_TEXT = FIELDS["text"]


@dataclass(frozen=True, slots=True)
class Filter:
    """What requests have to be."""

    node: Node | None = None

    @property
    def said(self) -> frozenset[str]:
        """Texts to search for in captured content; `Table.saying` has the results."""
        return frozenset(text for term in terms(self.node) for text in _said(term))

    @property
    def is_of_others(self) -> bool:
        """Whether a request matches or not because of others."""
        return any(_field(term).is_of_others for term in terms(self.node))

    def as_of(self, now_ts: float) -> Hashable:
        """While this value is the same, the same requests match as time goes by."""
        found: list[Hashable] = []
        for term in terms(self.node):
            field = _field(term)
            if field.moves:
                found.append(int(now_ts))
            elif field.kind == "time":
                found += [interval("time", term.sign, each.text)(now_ts) for each in term.values]
        return tuple(found)

    def mask(self, table: Table, now_ts: float = math.nan) -> GrowableArray:
        """For each row whether it matches; without a moment, as of the last start."""
        if math.isnan(now_ts):
            starts = table.column("start_ts")
            now_ts = float(starts.max()) if len(starts) else 0.0
        return _look(self.node)(table, now_ts)


def _look(node: Node | None) -> Look:
    if isinstance(node, Term):
        return term_look(node)
    if isinstance(node, Not):
        inner = _look(node.inner)
        return lambda table, now_ts: ~inner(table, now_ts)
    if node is None:
        return lambda table, now_ts: np.ones(table.n, bool)
    looks, join = [_look(part) for part in node.parts], _JOINS[type(node)]
    return lambda table, now_ts: join([look(table, now_ts) for look in looks])


_JOINS: Mapping[type[And] | type[Or], Callable[[list[GrowableArray]], GrowableArray]] = {
    And: np.logical_and.reduce,
    Or: np.logical_or.reduce,
}


def _field(term: Term) -> Field:
    return FIELDS[term.name or "text"]


def _said(term: Term) -> Iterator[str]:
    """Texts that may be anywhere, so that content has to be searched for them."""
    for value in term.values if _field(term) is _TEXT and term.sign == ":" else ():
        text = _anywhere(value)
        if text and (value.is_quoted or "*" not in text):
            yield text


def _anywhere(value: Value) -> str:
    """What is looked for by a word alone, which may be in the middle anyway."""
    return value.text if value.is_quoted else value.text.strip("*")


def term_look(term: Term) -> Look:
    """Which rows match one term."""
    field, looks = _field(term), list[Look]()
    for value in term.values:
        if field.numbers is not None:
            looks.append(_number_look(field, term, value))
        elif not value.text and field is not _TEXT:
            looks.append(_none_look(field))
        else:
            looks.append(_text_look(field, term, value))
    return (
        looks[0]
        if len(looks) == 1
        else lambda table, now_ts: np.logical_or.reduce([look(table, now_ts) for look in looks])
    )


def _number_look(field: Field, term: Term, value: Value) -> Look:
    numbers, moments = field.numbers, interval(field.kind, term.sign, value.text)
    assert numbers is not None

    def look(table: Table, now_ts: float) -> GrowableArray:
        found, (low, high, is_open) = numbers(table, now_ts), moments(now_ts)
        with np.errstate(invalid="ignore"):
            if is_open:
                return (found > low) & (found < high)
            return (found >= low) & (found <= high)

    return look


def _none_look(field: Field) -> Look:
    known = _texts(field, KNOWN)
    return lambda table, now_ts: ~known(table, now_ts)


def _text_look(field: Field, term: Term, value: Value) -> Look:
    if field is not _TEXT or term.sign != ":":
        return _texts(field, pattern(term.sign, value, field.between))
    text = _anywhere(value)
    look = _texts(field, TextPattern(text.lower(), typed=text) if value.is_quoted else part(text))
    return lambda table, now_ts: look(table, now_ts) | table.saying(text)


def _texts(field: Field, wanted: TextPattern) -> Look:
    texts = field.texts
    assert texts is not None
    return lambda table, now_ts: texts(table, wanted, now_ts)


def parse(text: str, kept: Mapping[str, str] | None = None, typed: Typed | None = None) -> Filter:
    """Parse a filter; an empty one matches everything. `kept` holds the filters behind `@name`.

    Raises:
        FilterError: It can't be parsed.
    """
    return Filter(Parser(text, kept or {}, typed).parse())


def expanded(text: str, kept: Mapping[str, str]) -> str:
    """A filter with its `@name`s replaced, so that it doesn't change when they change."""
    return written(Parser(text, kept).parse())
