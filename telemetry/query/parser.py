"""The text of a filter to its tree: or < and < not < term. Pure.

While a filter is typed, a word that is not finished counts as not there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from mlxdeck.telemetry.query.fields import ALIASES, FIELDS, Field
from mlxdeck.telemetry.query.lexer import Token, Value, term_text, tokens, values
from mlxdeck.telemetry.query.measures import MeasureError, interval
from mlxdeck.telemetry.query.patterns import pattern
from mlxdeck.telemetry.query.syntax import And, Node, Not, Or, Term, joined

MAX_WORDS = 100
"""Parentheses count too: each may be one level deeper."""
WORDS = ("and", "or", "not")
_OTHER_SIGNS = {"~", "=~", "~="}


class FilterError(ValueError):
    """A filter that can't be understood; the place is in characters of its text."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start = start
        self.end = end


class Typed(NamedTuple):
    """A filter is being typed: what words to come would complete is no mistake."""

    at: int
    """Where the cursor is."""
    counts: bool
    """Whether the word there counts, unless it may become a field or an operator."""


class Parser:
    """Parses one text."""

    def __init__(self, text: str, kept: Mapping[str, str], typed: Typed | None = None) -> None:
        """`kept` are the filters behind `@name`."""
        self._all = list(tokens(text))
        self._kept = kept
        self._end = len(text)
        self._at = 0
        self._typed = typed

    def parse(self) -> Node | None:
        """The tree; None of a filter that everything matches.

        Raises:
            FilterError: It can't be understood.
        """
        if len(self._all) > MAX_WORDS:
            raise FilterError(f"at most {MAX_WORDS} words", self._all[MAX_WORDS].start, self._end)
        found = self._either() if self._all else None
        if token := self._peek():
            raise FilterError("a ( is missing", token.start, token.end)
        return found

    def _peek(self) -> Token | None:
        return self._all[self._at] if self._at < len(self._all) else None

    def _take(self, kind: str) -> bool:
        token = self._peek()
        if token is None or token.kind != kind or self._is_left_out(token):
            return False
        self._at += 1
        return True

    def _is_left_out(self, token: Token) -> bool:
        """Whether a word is not finished."""
        if self._typed is None or not token.start < self._typed.at <= token.end:
            return False
        if token.kind != "term":
            return token.text.isalpha() and not self._typed.counts
        return not self._typed.counts or self._may_become(token.text.lower())

    def _may_become(self, word: str) -> bool:
        if word.startswith("@"):
            names = [f"@{name}".lower() for name in self._kept]
            return word not in names and any(name.startswith(word) for name in names)
        return any(name.startswith(word) for name in (*FIELDS, *ALIASES, *WORDS, "-", "!"))

    @property
    def _may_go_on(self) -> bool:
        return self._peek() is None and self._typed is not None and self._typed.at == self._end

    def _either(self) -> Node | None:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return joined(Or, [part for part in parts if part])

    def _both(self) -> Node | None:
        parts = [self._negated()]
        while (token := self._peek()) and (
            token.kind not in ("or", ")") or self._is_left_out(token)
        ):
            self._take("and")
            parts.append(self._negated())
        return joined(And, [part for part in parts if part])

    def _negated(self) -> Node | None:
        if self._take("not"):
            inner = self._negated()
            return inner and Not(inner)
        token = self._peek()
        if self._may_go_on:
            return None
        if token is not None and self._is_left_out(token):
            self._at += 1
            return None
        if token is None or token.kind in (")", "and", "or"):
            start = token.start if token else self._end
            raise FilterError("something to look for is missing", start, start + 1)
        self._at += 1
        if token.kind == "(":
            return self._group(token)
        return self._named(token) if token.text.startswith("@") else term(token)

    def _group(self, token: Token) -> Node | None:
        found = self._either()
        if not self._take(")") and not self._may_go_on:
            raise FilterError("a ) is missing", token.start, token.end)
        return found

    def _named(self, token: Token) -> Node | None:
        """A filter that was kept; one in another is left alone, so that none holds itself."""
        text = self._kept.get(token.text[1:])
        if text is None:
            known = ", ".join(f"@{name}" for name in self._kept) or "none"
            message = f"no filter {token.text} was kept; there are {known}"
            raise FilterError(message, token.start, token.end)
        try:
            return Parser(text, {}).parse()
        except FilterError as error:
            raise FilterError(f"{token.text}: {error}", token.start, token.end) from error


def term(token: Token) -> Node:
    """A field with its values, or a word alone.

    Raises:
        FilterError: There is no such field, or it can't have such a value.
    """
    told = term_text(token.text)
    if told.name == "":
        if told.value.startswith(("<", ">", "=", "~", ":")):
            raise FilterError("a field is missing, as in latency>2s", token.start, token.end)
        found = tuple(values(told.value, listed=False))
        return Term("", ":", found)
    name = ALIASES.get(told.name, told.name)
    field = FIELDS.get(name)
    if field is None:
        raise FilterError(_unknown(told.name), token.start, token.end)
    sign = {"!=": "=", "!:": ":"}.get(told.sign, told.sign)
    if sign in _OTHER_SIGNS:
        raise FilterError(f"{sign} is no sign: {name}: finds a part", token.start, token.end)
    found = tuple(values(told.value, listed=field.numbers is None))
    if problem := _problem(name, field, sign, found):
        raise FilterError(problem, token.start, token.end)
    made = Term(name, sign, found)
    return made if sign == told.sign else Not(made)


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, [*FIELDS, *ALIASES], 1)
    if close:
        return f"unknown field {name!r}: did you mean {close[0]}?"
    return f"unknown field {name!r}; there are {', '.join(FIELDS)}; a text with : goes in quotes"


def _problem(name: str, field: Field, sign: str, found: tuple[Value, ...]) -> str:
    if field.numbers is not None:
        try:
            for value in found:
                interval(field.kind, sign, value.text)
        except MeasureError as error:
            return f"{name} {error}"
        return ""
    if sign not in (":", "="):
        return f"{name} takes : or =, as in {field.example}"
    if found == (Value(""),):
        return f'{name} of what? {field.example}, or {name}="" for none'
    for value in found if field.choices else ():
        if value.text and not any(pattern(sign, value).among(field.choices)):
            return no_value(name, value.text, field.choices)
    return ""


def no_value(name: str, value: str, known: tuple[str, ...] | list[str]) -> str:
    """That a field has no such value, and which one may be meant."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(value.lower(), by_lower, 1)
    if close:
        return f"{name}: no {value}; {by_lower[close[0]]}?"
    some = ", ".join([each for each in known if each][:8])
    return f"{name}: no {value}" + (f"; there are {some}" if some else "")
