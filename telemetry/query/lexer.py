"""Where the text of a filter is cut into tokens; quotation, and the value of numbers. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["seconds", "count", "share", "time", "text"]
TokenKind = Literal["(", ")", "and", "or", "not", "term"]

_UNITS_S = {
    **{"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0},
    **{"h": 3600.0, "d": 86_400.0},
}
_DECIMALS = {"s": 2, "sec": 2, "m": 2, "min": 2, "h": 2, "d": 2, "k": 1}
_POWERS = {"": 1, "k": 1_000, "m": 1_000_000}
_NAME = r"[A-Za-z_]+"
_SIGN = r"(?::\s*(?:!=|>=|<=|==|[<>=])|!=|!:|<>|==|=~|~=|>=|<=|=>|=<|[:=<>~])"
SIGNS = {"==": "=", ":=": "=", ":==": "=", "<>": "!=", "=>": ">=", "=<": "<="} | {
    f":{sign}": sign for sign in ("!=", ">=", "<=", "<", ">")
}
"""Other ways to write a sign."""
_DOUBLE = r'"(?:[^"\\]|\\.)*"?'
_SINGLE = r"'[^']*'(?=[\s()|,]|$)"
_RUN = rf'(?:{_DOUBLE}|&(?![&\s()]|$)|\|(?![|\s()]|$)|[^\s()"&|])+'
_MEASURED = r"[\d.,]+\s+(?:us|ms|sec|min|[smhdk]|%)(?![^\s()])"
"""A number and its unit with a blank between them."""
_DATED = (
    r"\d{4}-\d\d-\d\d[ T]\d\d?:\d\d(?::\d\d)?(?:\.\.\d{4}-\d\d-\d\d(?:[ T]\d\d?:\d\d(?::\d\d)?)?)?"
)
_VALUE = rf"(?:{_DATED}|{_MEASURED}|{_SINGLE}|{_RUN})"
_TOKEN = re.compile(
    rf"\s*(?:([()])|(\|\|?|&&?)|([-!])(?=[^\s)])|({_NAME}\s*{_SIGN}\s*{_VALUE}|{_NAME}\s*{_SIGN}|"
    rf"{_VALUE}|\S))",
    re.IGNORECASE,
)
_TERM = re.compile(rf"({_NAME})\s*({_SIGN})\s*(.*)", re.DOTALL | re.IGNORECASE)
_PART = re.compile(rf"({_SINGLE}|(?:{_DOUBLE}|[^|])+)")
_PART_OF_LIST = re.compile(rf"({_SINGLE}|(?:{_DOUBLE}|[^|,])+)")
_NUMBER = re.compile(r"(-?(?:\d+(?:\.\d*)?|\.\d+))\s*([a-z%]*)", re.IGNORECASE)
_OPERATORS: dict[str, TokenKind] = {
    **{"and": "and", "&&": "and", "&": "and", "or": "or", "||": "or", "|": "or"},
    **{"not": "not", "-": "not", "!": "not"},
}


class Token(NamedTuple):
    """A piece of a filter's text, and its place there."""

    kind: TokenKind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)


class Value(NamedTuple):
    """What a field is compared with. In quotes, no character has a meaning of its own."""

    text: str
    is_quoted: bool = False

    def __str__(self) -> str:
        return quoted(self.text) if self.is_quoted else self.text


class TermText(NamedTuple):
    """The three parts of a term; a word alone has no field and no sign."""

    name: str
    sign: str
    value: str


def tokens(text: str) -> Iterator[Token]:
    """Parentheses, operators, and terms, with blanks in them or not."""
    at = 0
    while found := _TOKEN.match(text, at):
        place = found.lastindex or 0
        part, at = found[place], found.end()
        bracket: TokenKind = "(" if part == "(" else ")"
        kind = bracket if place == 1 else _OPERATORS.get(part.lower(), "term")
        # A dash between blanks is a text: `a - b`.
        yield Token("term" if place == 4 and part == "-" else kind, part, found.start(place))


def term_text(text: str) -> TermText:
    """The parts of a term."""
    found = None if text.startswith(('"', "'")) else _TERM.fullmatch(text)
    if found is None:
        return TermText("", ":", text)
    sign = re.sub(r"\s", "", found[2])
    return TermText(found[1].lower(), SIGNS.get(sign, sign), found[3])


def values(text: str, *, listed: bool) -> list[Value]:
    """The alternatives of a value, which `|` separates, and `,` too if `listed`."""
    parts = (_PART_OF_LIST if listed else _PART).findall(text)
    return [_value(part) for part in parts] or [Value("")]


def _value(part: str) -> Value:
    if part.startswith("'") and part.endswith("'") and len(part) > 1:
        return Value(part[1:-1], is_quoted=True)
    return Value(unquoted(part), is_quoted='"' in part)


def number(kind: Kind, text: str) -> tuple[float, float]:
    """The value of a number, and the distance at which other values display the same.

    NaN if the text is no number.
    """
    found = _NUMBER.fullmatch(text.strip().replace(",", ""))
    if found is None:
        return math.nan, math.nan
    value, unit = float(found[1]), found[2].lower()
    if kind == "seconds":
        factor = _UNITS_S.get(unit or "s", math.nan)
    elif kind == "share":
        # A share above 1 can only be a percentage.
        factor = {"%": 0.01, "": 0.01 if value > 1 else 1.0}.get(unit, math.nan)
    else:
        factor = _POWERS.get(unit, math.nan)
    # A whole number matches every value that is displayed as this number with its unit.
    n_decimals = len(found[1].partition(".")[2]) or _DECIMALS.get(unit, 0)
    return value * factor, 0.5 * 10.0**-n_decimals * factor * (1 + 1e-6)


def unit(text: str) -> str:
    """The unit of a number; empty if it has none."""
    found = _NUMBER.fullmatch(text.strip())
    return found[2] if found else ""


def quoted(text: str) -> str:
    """A text as a quoted value; any text is valid."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def unquoted(value: str) -> str:
    """The text of a value: without quotation marks, and with escapes resolved."""

    def inner(found: re.Match[str]) -> str:
        return re.sub(r'\\(["\\])', r"\1", found[1])

    return re.sub(r'"((?:[^"\\]|\\.)*)"?', inner, value)
