"""The arguments of a call in a history as the object that a chat template shows.

Clients send back the model's text in any state: complete, cut off, with text after it, encoded
twice, or no JSON. Text that can't become an object is kept literally under one name.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.json_fields import too_deep
from mlxdeck.server.dialects.request_body import mended
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.dialects.surrogates import whole_text
from mlxdeck.server.lenient_json import decode_cut, decode_first

RAW = "input"
"""What arguments are called that are no object; a custom tool's text is called so too."""
# Claude Code's form of arguments that it couldn't read.
_UNPARSED = "__unparsedToolInput"
_MAX_ENCODINGS = 4
_MAX_MENDED_CHARS = 1 << 19
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)


class CallInputs:
    """Reads the arguments of the calls of one history, from its beginning on.

    Repairs are slow and run on the event loop, so each request has a limit.
    """

    def __init__(self, notes: Notes, kind: str) -> None:
        """`kind` is the dialect's name of them, in notes."""
        self._notes = notes
        self._kind = kind
        self._left_chars = _MAX_MENDED_CHARS

    def read(self, raw: Any) -> dict[str, Any]:
        """The object that the arguments are, or were intended to be."""
        if isinstance(raw, dict):
            wrapped = raw.get(_UNPARSED)
            if not isinstance(wrapped, dict) or not isinstance(wrapped.get("raw"), str):
                return self._kept(raw) if too_deep(raw) else raw
            raw = wrapped["raw"]
        value, repaired = raw, raw is None
        for _ in range(_MAX_ENCODINGS):
            if not isinstance(value, str):
                break
            try:
                value, changed = self._decoded(value) if value.strip() else ({}, repaired)
            except ValueError:
                return self._kept(raw)
            repaired = repaired or changed or isinstance(value, str)
        if isinstance(value, list) and len(value) == 1:
            value, repaired = value[0], True
        if value is None:
            value, repaired = {}, True
        if not isinstance(value, dict) or too_deep(value):
            return self._kept(raw)
        if repaired:
            self._notes.add("repaired", self._kind)
        return value

    def _kept(self, raw: Any) -> dict[str, Any]:
        self._notes.add("kept_raw", self._kind)
        if isinstance(raw, str):
            return {RAW: whole_text(raw)}
        deep = isinstance(raw, dict | list) and too_deep(raw)
        return {RAW: to_json(raw).decode() if deep else raw}

    def _decoded(self, text: str) -> tuple[Any, bool]:
        """The JSON at the beginning of a text, and whether there is more text."""
        try:
            return msgspec.json.decode(text), False
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            pass
        self._left_chars -= len(text)
        if self._left_chars < 0:
            raise ValueError("too long to be repaired")
        text = text.strip()
        if fenced := _FENCE.match(text):
            text = fenced[1].strip()
        try:
            value = decode_first(text)[0]
        except ValueError:
            value = decode_cut(text)
        try:
            return mended(value, "messages."), True
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
