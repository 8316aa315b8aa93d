"""The tokens of a filter: where its text is cut, quotation, and the value of numbers. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["seconds", "count", "share", "text"]

_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DECIMALS = {"s": 2, "m": 2, "h": 2, "k": 1}
_POWERS = {"": 1, "k": 1_000, "m": 1_000_000}
_SIGN = r"[A-Za-z_]+\s*(?:>=|<=|[:=<>])"
_QUOTED = r'"(?:[^"\\]|\\.)*"?'
_APART = r"[\d.,]+\s+(?:ms|[smhk]|%)(?![^\s()])"
"""A number and its unit with a blank between them."""
_TOKEN = re.compile(
    r"\s*(?:([()])|([-!])(?=\S)|"
    rf'({_SIGN}\s*{_APART}|(?:{_SIGN}\s*)?(?:{_QUOTED}|[^\s()"])+|{_SIGN}))',
    re.IGNORECASE,
)
TERM = re.compile(r"([A-Za-z_]+)\s*(>=|<=|[:=<>])\s*(.*)", re.DOTALL)
"""A field, a sign and a value that may be quoted."""
_NUMBER = re.compile(r"(-?(?:\d+(?:\.\d*)?|\.\d+))\s*([a-z%]*)", re.IGNORECASE)


class Token(NamedTuple):
    """A word and where it begins."""

    text: str
    start: int


def tokens(text: str) -> Iterator[Token]:
    """Parentheses, a `-` or `!` before something, and terms, with blanks in them or not."""
    at = 0
    while found := _TOKEN.match(text, at):
        place = found.lastindex or 0
        yield Token(found[place], found.start(place))
        at = found.end()


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


def quoted(text: str) -> str:
    """A text as a quoted value; any text is valid."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def unquoted(value: str) -> str:
    """The text of a value: without quotation marks, and with escapes resolved."""

    def inner(found: re.Match[str]) -> str:
        return re.sub(r'\\(["\\])', r"\1", found[1])

    return re.sub(r'"((?:[^"\\]|\\.)*)"?', inner, value)
