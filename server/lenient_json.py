"""JSON as models and clients write it, with small deviations from the standard. Pure.

Nothing is invented: ambiguous text stays an error.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import msgspec

_LITERALS = {"True": "true", "False": "false", "None": "null"}
_CLOSING = {"{": "}", "[": "]"}
_PLAIN = re.compile(r"[^\"'\\\x00-\x1f]+")
_OTHER = re.compile(r"[^\"'{}\[\],]+")
_COMMENT = re.compile(r"(?://|#)[^\n]*|/\*.*?\*/", re.DOTALL)
# A string up to its closing quote, or to where it was cut off in the middle of an escape.
_STRINGS = {
    quote: re.compile(rf"{quote}(?:[^{quote}\\]|\\u[0-9a-fA-F]{{4}}|\\[^u])*+", re.DOTALL)
    for quote in "\"'"
}
_LONGEST_ESCAPE = len("\\u000")
ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class TooManyDigits(ValueError):
    """An integer is longer than Python reads, as that takes time by the square of its digits."""

    def __init__(self) -> None:
        super().__init__(f"an integer has more than {sys.get_int_max_str_digits():,} digits")


def integer(digits: str) -> int:
    """Read one; raises `TooManyDigits`, where Python's own error is advice to programmers."""
    try:
        return int(digits)
    except ValueError:
        raise TooManyDigits from None


_decoder = json.JSONDecoder(parse_int=integer)


def loads(text: str | bytes) -> Any:
    """Decode JSON as `json.loads` does.

    Raises:
        ValueError: It is none, or an integer is too long.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, parse_int=integer)


def decode_strictly(text: str) -> Any:
    """Decode JSON as Python's own decoder does, in a fraction of the time if it is long.

    Raises:
        ValueError: It is none.
        RecursionError: It is nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    # Also for what only Python's decoder takes, as halves of surrogate pairs and deep nesting.
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return loads(text)


def decode_first(text: str) -> tuple[Any, int, bool]:
    """Decode the JSON value at the beginning of a text: value, its length, whether it was repaired.

    Repairs are for single quotes, comments, trailing commas, raw line breaks in strings, and
    Python's literals.

    Raises:
        ValueError: There is none, or it doesn't end.
    """
    try:
        try:
            value, end = _decoder.raw_decode(text)
        except json.JSONDecodeError:
            mended, end = _mended(text)
            return loads(mended), end, True
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return value, end, False


def decode_cut(text: str) -> Any:
    """Decode the object or list at the beginning of a text that was cut off before its end.

    Incomplete parts are kept as far as they have a meaning: half a string is a string, half a name
    is dropped.

    Raises:
        ValueError: It isn't one, or isn't cut off but wrong.
    """
    if text[:1] not in _CLOSING:
        raise ValueError("no JSON object or list")
    begun, place, end = _begun(text)
    for head in (begun, text[:place]):
        try:
            return decode_first(head + end)[0]
        except ValueError:
            continue
    raise ValueError("no JSON, also if it went on")


def _begun(text: str) -> tuple[str, int, str]:
    """All of a text with its last string closed, where the last value ended, what closes it all."""
    stack: list[str] = []
    at = place = 0
    while at < len(text):
        char = text[at]
        if char in _CLOSING:
            stack.append(_CLOSING[char])
            place = at + 1
        elif char == ",":
            place = at
        elif char in "}]":
            if stack.pop() != char or not stack:
                raise ValueError("not cut off")
            place = at + 1
        elif char in _STRINGS:
            at = _string_end(text, at)
            if text[at : at + 1] != char:
                text = text[:at] + char
        elif plain := _OTHER.match(text, at):
            at = plain.end() - 1
        at += 1
    return text, place, "".join(reversed(stack))


def _string_end(text: str, begin: int) -> int:
    """Where a string's closing quote is, or where it was cut off."""
    match = _STRINGS[text[begin]].match(text, begin)
    end = match.end() if match else begin + 1
    if text[end : end + 1] != text[begin] and len(text) - end > _LONGEST_ESCAPE:
        raise ValueError("a wrong escape")
    return end


def _mended(text: str) -> tuple[str, int]:
    """The value that the text begins with as strict JSON, and the length of the original."""
    out: list[str] = []
    depth = 0
    at = len(text) - len(text.lstrip())
    while at < len(text):
        char = text[at]
        if char in "\"'":
            string, at = _string(text, at)
            out.append(string)
        elif comment := _COMMENT.match(text, at):
            at = comment.end()
        elif char.isalpha():
            begin = at
            while at < len(text) and text[at].isalnum():
                at += 1
            word = text[begin:at]
            out.append(_LITERALS.get(word, word))
        else:
            at += 1
            depth += (char in "[{") - (char in "]}")
            if char in "]}":
                _drop_comma(out)
            out.append(char)
        if depth <= 0:
            return "".join(out), at
    raise ValueError("the JSON does not end")


def _drop_comma(out: list[str]) -> None:
    place = len(out) - 1
    while place >= 0 and out[place].isspace():
        place -= 1
    if place >= 0 and out[place] == ",":
        del out[place]


def _string(text: str, begin: int) -> tuple[str, int]:
    """The string that begins there, in double quotes, and where it ends."""
    quote, out, at = text[begin], ['"'], begin + 1
    while at < len(text):
        if plain := _PLAIN.match(text, at):
            out.append(plain[0])
            at = plain.end()
            continue
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            # JSON knows no \' and no other escapes that Python would let pass.
            known = text[at + 1] in '"\\/bfnrtu'
            out.append(
                text[at : at + 2] if known else "\\\\" * (text[at + 1] != "'") + text[at + 1]
            )
            at += 2
        elif char == quote:
            return "".join([*out, '"']), at + 1
        else:
            out.append('\\"' if char == '"' else ESCAPED.get(char) or f"\\u{ord(char):04x}")
            at += 1
    raise ValueError("a string does not end")
