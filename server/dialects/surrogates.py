"""Halves of surrogate pairs, which are no text, become U+FFFD in both directions.

Models write them and JavaScript keeps them, but most other clients can neither read nor send one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
_REPLACED = "\\ufffd"
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# What JSON text is made of, as far as escapes go: plain runs, whole pairs, halves, other escapes.
_PIECE = re.compile(
    rf"(?P<whole>[^\\]+|{_HIGH}{_LOW})|(?P<half>{_HIGH}|{_LOW})|\\(?:u[0-9a-fA-F]{{4}}|[^u])",
    re.DOTALL,
)
_HALF_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_BEGUN_LOW = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?\Z")
_LONGEST_ESCAPE = 6


_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*+)\\u[dD](?:"
    rb"[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})|[89a-fA-F][0-9a-fA-F]{2})"
)
"""An escape of a pair (with a second group) or of a half, and the backslashes before it."""
_PIECE_BYTES = 512 * 1024
_IN_ESCAPE = b"\\u0123456789abcdefABCDEF"


def text_alone(body: bytes) -> bytes:
    """JSON with U+FFFD for halves of pairs that are written as escapes, and for what is no UTF-8.

    In pieces, between which other threads get on.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    mended = []
    for piece in _pieces(body):
        piece = _SURROGATE.sub(_whole_escape, piece)
        mended.append(decoder.decode(piece).encode())
    return b"".join([*mended, decoder.decode(b"", final=True).encode()])


def _pieces(body: bytes) -> Iterator[bytes]:
    """Cut where no escape can be: in front of a byte that is part of none."""
    at = 0
    while at < len(body):
        end = at + _PIECE_BYTES
        while end < len(body) and body[end] in _IN_ESCAPE:
            end += 1
        yield body[at:end]
        at = end


def _whole_escape(found: re.Match[bytes]) -> bytes:
    return found[0] if found[2] else found[1] + _REPLACED.encode()


def whole_text(text: str) -> str:
    """A text without halves."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def whole_value(value: Any) -> Any:
    """A JSON value without halves, in its keys too."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict):
        return {whole_text(key): whole_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [whole_value(each) for each in value]
    return value


def _cut_escape(text: str) -> tuple[str, str]:
    """A text without the escape that it ends in the middle of, and that."""
    place = text.rfind("\\", max(0, len(text) - _LONGEST_ESCAPE + 1))
    behind = text[place + 1 :]
    if place < 0 or (behind and behind[0] != "u"):
        return text, ""
    n_slashes = place + 1 - len(text[: place + 1].rstrip("\\"))
    return (text, "") if n_slashes % 2 == 0 else (text[:place], text[place:])


class WholeEscapes:
    """Passes JSON text on as it comes, with halves that are written as escapes replaced."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that can be sent now; an incomplete escape waits for its rest."""
        text = self._held + text
        self._held = ""
        if "\\" not in text:
            return text
        if not _HALF_ESCAPE.search(text):
            whole, self._held = _cut_escape(text)
            return whole
        out: list[str] = []
        at = 0
        while at < len(text):
            match = _PIECE.match(text, at)
            if match is None and len(text) - at > _LONGEST_ESCAPE:
                # An escape that JSON doesn't have: left unchanged.
                out.append(text[at])
                at += 1
                continue
            if match is None or (match["half"] and _BEGUN_LOW.match(text, match.end())):
                self._held = text[at:]
                break
            out.append(_REPLACED if match["half"] else match[0])
            at = match.end()
        return "".join(out)

    def flush(self) -> str:
        """The rest of the text, at the end of a call."""
        held, self._held = self._held, ""
        match = _PIECE.match(held)
        return _REPLACED + held[match.end() :] if match and match["half"] else held
