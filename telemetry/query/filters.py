"""The dashboard's filter language: one line to a mask over the rows of a store. Pure.

    tool:Read status:error latency>2s (hit<0.5 or tokens_in>8k) not session:abc text:"a b"

Terms are joined by `and` where nothing stands between them; `-` before one is `not`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdeck.telemetry.columns.growable_array import comparable
from mlxdeck.telemetry.query.lexer import TERM, Kind, Token, number, tokens, unquoted
from mlxdeck.telemetry.schema.figures import EXACT, FIGURES
from mlxdeck.telemetry.schema.figures import Kind as FigureKind
from mlxdeck.telemetry.store.store import BETWEEN_TOOLS
from mlxdeck.telemetry.store.table import Table

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Numbers = np.ndarray[Any, np.dtype[Any]]

MAX_WORDS = 100
"""Parentheses count too: each may be one level deeper."""


class FilterError(ValueError):
    """A filter that can't be understood; the place is in characters of its text."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start = start
        self.end = end


@dataclass(frozen=True, slots=True)
class Field:
    """Something to filter by."""

    kind: Kind
    about: str
    example: str
    numbers: Callable[[Table], Numbers] | None = None
    """One value a row, NaN where there is none; for kinds with comparisons."""
    texts: Callable[[Table, Callable[[str], bool]], Mask] | None = None
    """Which rows have a text that something is true of."""


def _column(name: str) -> Callable[[Table], Numbers]:
    def numbers(store: Table) -> Numbers:
        return comparable(store.column(name))

    return numbers


def _hit(store: Table) -> Numbers:
    total = store.column("input_tokens").astype(float)
    known = comparable(store.column("cached_tokens"))
    cached = np.where(store.column("cache") == EXACT, total, known)
    shares: Numbers = np.divide(cached, total, out=np.full(len(total), np.nan), where=total > 0)
    return shares


def _coded(name: str) -> Callable[[Table, Callable[[str], bool]], Mask]:
    """A column of texts by number: each text is looked at once."""

    def rows(store: Table, wanted: Callable[[str], bool]) -> Mask:
        numbers, places = np.unique(store.column(name), return_inverse=True)
        good = np.array([wanted(store.strings[int(number)]) for number in numbers], bool)
        return np.asarray(good[places] if len(numbers) else np.zeros(0, bool))

    return rows


def _listed(name: str, texts: Sequence[str]) -> Callable[[Table, Callable[[str], bool]], Mask]:
    def rows(store: Table, wanted: Callable[[str], bool]) -> Mask:
        good = np.array([wanted(text) for text in texts])
        return np.asarray(good[store.column(name)])

    return rows


def _either(*names: str) -> Callable[[Table, Callable[[str], bool]], Mask]:
    def rows(store: Table, wanted: Callable[[str], bool]) -> Mask:
        found = np.zeros(store.n, bool)
        for name in names:
            found |= _coded(name)(store, wanted)
        return found

    return rows


def _called(store: Table, wanted: Callable[[str], bool]) -> Mask:
    def any_of(names: str) -> bool:
        return any(wanted(name) for name in names.split(BETWEEN_TOOLS) if name)

    return _coded("tools")(store, any_of)


def _ids(store: Table, wanted: Callable[[str], bool]) -> Mask:
    names = store.names().tolist()
    return np.fromiter((wanted(name.decode("utf-8", "replace")) for name in names), bool, store.n)


def _anywhere(store: Table, wanted: Callable[[str], bool]) -> Mask:
    # Figures without a field are no words that a person would look for.
    texts = _either("session", *(f.name for f in FIGURES if f.kind in ("text", "list") and f.field))
    found = _ids(store, wanted) | _called(store, wanted) | texts(store, wanted)
    found[[call.row for call in store.tool_calls if wanted(call.call.arguments)]] = True
    return found


_LEXED: Mapping[FigureKind, Kind] = {"seconds": "seconds", "tokens": "count", "count": "count"}


def _of_figures() -> Iterator[tuple[str, Field]]:
    """A field for each that the table of figures names."""
    for figure in FIGURES:
        if not figure.example:
            continue
        if figure.is_number:
            kind, numbers = _LEXED[figure.kind], _column(figure.name)
            yield figure.field, Field(kind, figure.about, figure.example, numbers)
            continue
        same = [each.name for each in FIGURES if each.field == figure.field]
        choices = figure.choices
        texts = _listed(figure.name, choices) if choices else _either(*same)
        yield figure.field, Field("text", figure.about, figure.example, texts=texts)


_COMPUTED = {
    "hit": Field("share", "share of the prompt from cache", "hit<50%", _hit),
    "tool": Field("text", "a tool it called, or unreadable", "tool:Read", texts=_called),
    "session": Field("text", "the client's session", "session:1f2e", texts=_coded("session")),
    "id": Field("text", "the request's own name", "id:req_1", texts=_ids),
    "text": Field("text", "in any of these, or said in it", 'text:"a b"', texts=_anywhere),
}
FIELDS: Mapping[str, Field] = dict(
    sorted([*_of_figures(), *_COMPUTED.items()], key=lambda named: named[1].numbers is None)
)
"""Numbers first, as they are typed most."""
ALIASES = {
    **{"total": "latency", "duration": "latency", "in": "tokens_in", "out": "tokens_out"},
    **{"end": "finish", "outcome": "status"},
}
"""What columns and figures are called elsewhere."""
_COMPARED: Mapping[str, Callable[[Numbers, float], Mask]] = {
    ">": lambda values, bound: values > bound,
    ">=": lambda values, bound: values >= bound,
    "<": lambda values, bound: values < bound,
    "<=": lambda values, bound: values <= bound,
}
_NEEDS: Mapping[str, str] = {
    "seconds": "a time like 2s or 300ms",
    "count": "a number like 5 or 8k",
    "share": "a share like 0.5 or 40%",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What requests have to be."""

    text: str
    said: frozenset[str] = frozenset()
    """Texts to search for in captured content; `Table.saying` has the results."""
    _mask: Callable[[Table], Mask] | None = None

    def mask(self, store: Table) -> Mask:
        """For each row whether it matches."""
        return (self._mask or _everything)(store)


class _Parser:
    """Recursive descent: or < and < not < term."""

    def __init__(self, text: str, kept: Mapping[str, str]) -> None:
        self._all = list(tokens(text))
        self._kept = kept
        self.said = set[str]()
        self._end = len(text)
        self._at = 0

    def parse(self) -> Callable[[Table], Mask] | None:
        if not self._all:
            return None
        if len(self._all) > MAX_WORDS:
            raise FilterError(f"at most {MAX_WORDS} words", self._all[MAX_WORDS].start, self._end)
        found = self._either()
        if token := self._peek():
            raise FilterError("a ( is missing", token.start, token.start + 1)
        return found

    def _peek(self) -> Token | None:
        return self._all[self._at] if self._at < len(self._all) else None

    def _word(self, *words: str) -> bool:
        token = self._peek()
        if token is None or token.text.lower() not in words:
            return False
        self._at += 1
        return True

    def _either(self) -> Callable[[Table], Mask]:
        found = self._both()
        while self._word("or"):
            found = _or(found, self._both())
        return found

    def _both(self) -> Callable[[Table], Mask]:
        found = self._negated()
        while (token := self._peek()) and token.text.lower() not in ("or", ")"):
            self._word("and")
            found = _and(found, self._negated())
        return found

    def _negated(self) -> Callable[[Table], Mask]:
        if self._word("not", "-", "!"):
            inner = self._negated()
            return lambda store: ~inner(store)
        token = self._peek()
        if token is None or token.text.lower() in (")", "and", "or"):
            start = token.start if token else self._end
            raise FilterError("something to look for is missing", start, start + 1)
        self._at += 1
        if token.text.startswith("@"):
            return self._named(token)
        if token.text != "(":
            return self._term(token)
        found = self._either()
        if not self._word(")"):
            raise FilterError("a ) is missing", token.start, token.start + 1)
        return found

    def _named(self, token: Token) -> Callable[[Table], Mask]:
        """A filter that was kept; one in another is left alone, so that none holds itself."""
        end = token.start + len(token.text)
        text = self._kept.get(token.text[1:])
        if text is None:
            known = ", ".join(f"@{name}" for name in self._kept) or "none"
            raise FilterError(
                f"no filter {token.text} was kept; there are {known}", token.start, end
            )
        try:
            inner = _Parser(text, {})
            found = inner.parse() or _everything
        except FilterError as error:
            raise FilterError(f"{token.text}: {error}", token.start, end) from error
        self.said |= inner.said
        return found

    def _term(self, token: Token) -> Callable[[Table], Mask]:
        name, sign, value = _read(token)
        found = _compared(token, name, sign, value)
        if name != "text" or sign != ":":
            return found
        self.said.add(value)
        return lambda store: found(store) | store.saying(value)


def _everything(store: Table) -> Mask:
    return np.ones(store.n, bool)


def _or(one: Callable[[Table], Mask], other: Callable[[Table], Mask]) -> Callable[[Table], Mask]:
    return lambda store: one(store) | other(store)


def _and(one: Callable[[Table], Mask], other: Callable[[Table], Mask]) -> Callable[[Table], Mask]:
    return lambda store: one(store) & other(store)


def _read(token: Token) -> tuple[str, str, str]:
    """Field, sign and value; a word alone is a text."""
    found = None if token.text.startswith('"') else TERM.fullmatch(token.text)
    if found is None:
        return "text", ":", unquoted(token.text)
    name = found[1].lower()
    return ALIASES.get(name, name), found[2], unquoted(found[3])


def _compared(token: Token, name: str, sign: str, value: str) -> Callable[[Table], Mask]:
    end, field = token.start + len(token.text), FIELDS.get(name)
    if field is None:
        close = difflib.get_close_matches(name, FIELDS, 1)
        hint = f": did you mean {close[0]}?" if close else f"; there are {', '.join(FIELDS)}"
        raise FilterError(f"unknown field {name!r}{hint}", token.start, end)
    if field.numbers is None:
        if sign not in (":", "="):
            raise FilterError(f"{name} takes : or =, as in {field.example}", token.start, end)
        return _text_term(name, sign, value)
    numbers, (bound, half) = field.numbers, number(field.kind, value)
    if math.isnan(bound):
        raise FilterError(f"{name} needs {_NEEDS[field.kind]}", token.start, end)

    def mask(store: Table) -> Mask:
        with np.errstate(invalid="ignore"):
            if sign in _COMPARED:
                return _COMPARED[sign](numbers(store), bound)
            return np.asarray(np.abs(numbers(store) - bound) <= half)

    return mask


def _text_term(name: str, sign: str, value: str) -> Callable[[Table], Mask]:
    texts, wanted = FIELDS[name].texts, value.lower()
    assert texts is not None
    if sign == "=":
        return lambda store: texts(store, lambda text: text.lower() == wanted)
    return lambda store: texts(store, lambda text: wanted in text.lower())


def parse(text: str, kept: Mapping[str, str] | None = None) -> Filter:
    """Parse a filter; an empty one matches everything. `kept` holds the filters behind `@name`.

    Raises:
        FilterError: It can't be parsed.
    """
    parser = _Parser(text, kept or {})
    mask = parser.parse()
    return Filter(text, frozenset(parser.said), mask)


NAME = re.compile(r"[\w-]+")
"""Of a filter that is kept."""


def expanded(text: str, kept: Mapping[str, str]) -> str:
    """A filter with its `@name`s replaced, so that it doesn't change when they change."""
    parts, end = [], 0
    for token in tokens(text):
        if token.text.startswith("@"):
            parts += [text[end : token.start], f"({kept[token.text[1:]]})"]
            end = token.start + len(token.text)
    return "".join([*parts, text[end:]])
