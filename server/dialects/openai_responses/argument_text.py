"""The text in the JSON arguments of a custom tool's call, while they come."""

from __future__ import annotations

import json
import re

from mlxdeck.server.dialects.history.call_inputs import RAW
from mlxdeck.server.dialects.surrogates import WholeEscapes

_HEAD = re.compile(rf'\s*\{{\s*"{RAW}"\s*:\s*"')
_MAX_HEAD = 256
"""Characters after which it is clear that the arguments begin in another way."""
# Pieces are cut between escapes, so a backslash is never the last character.
_STRING = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)


class ArgumentText:
    """Reads the arguments of one call.

    Arguments of another form than the one text that the tool has are the text, as they are.
    """

    def __init__(self) -> None:
        self._escapes = WholeEscapes()
        self._begun = ""
        """The arguments so far, while they may still begin in the usual way."""
        self._others: list[str] = []
        """All of them, where they began in another way."""
        self._is_in_text = self._is_over = False

    def feed(self, text: str) -> str:
        """The text that is complete now."""
        text = self._escapes.feed(text)
        if self._is_in_text:
            return self._taken(text)
        if self._is_over:
            return ""
        if self._others:
            self._others.append(text)
            return ""
        self._begun += text
        if found := _HEAD.match(self._begun):
            self._is_in_text = True
            return self._taken(self._begun[found.end() :])
        if len(self._begun) > _MAX_HEAD:
            self._others.append(self._begun)
        return ""

    def _taken(self, text: str) -> str:
        found = _STRING.match(text)
        piece = found[0] if found else ""
        if len(piece) < len(text):
            self._is_in_text, self._is_over = False, True
        return _unescaped(piece)

    def flush(self) -> str:
        """The rest of the text, at the end of the call."""
        rest = self._escapes.flush()
        if self._is_in_text:
            return _unescaped(rest)
        if self._is_over:
            return ""
        return _only_text("".join([*(self._others or [self._begun]), rest]))


def _unescaped(piece: str) -> str:
    try:
        return str(json.loads(f'"{piece}"', strict=False))
    except ValueError:
        return piece


def _only_text(arguments: str) -> str:
    """The text where it isn't the first argument, or what there is instead."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    said = value.get(RAW) if isinstance(value, dict) else None
    if isinstance(said, str):
        return said
    return "" if value == {} else arguments
