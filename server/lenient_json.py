"""JSON as models and clients write it, a little beside the standard: read all the same. Pure.

Nothing is ever made up: what is cut off or can't be told stays an error.
"""

from __future__ import annotations

import json
from typing import Any

_LITERALS = {"True": "true", "False": "false", "None": "null"}
ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def decode_first(text: str) -> tuple[Any, int, bool]:
    """Decode the JSON value that a text begins with: value, its length, whether it was mended.

    Mended are single quotes, trailing commas, raw line breaks in strings and Python's literals.

    Raises:
        ValueError: There is none, or it doesn't end.
    """
    try:
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except json.JSONDecodeError:
            mended, end = _mended(text)
            return json.loads(mended), end, True
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return value, end, False


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
            out.append('\\"' if char == '"' else ESCAPED.get(char, char))
            at += 1
    raise ValueError("a string does not end")
