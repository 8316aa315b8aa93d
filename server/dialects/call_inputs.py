"""The arguments of a call in a history as the object that a chat template shows.

Clients send back what a model wrote, whole or not: cut off, with text behind it, encoded twice, or
no JSON at all. What no object can be made of is kept word for word under one name. Pure, and a
function of the arguments alone, so that prompts stay equal.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from mlxdeck.server.dialects.body import mended, whole_text
from mlxdeck.server.dialects.fields import too_deep
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.lenient_json import decode_cut, decode_first

RAW = "input"
"""What arguments are called that are no object; a custom tool's text is called so too."""
_MAX_ENCODINGS = 4
_MAX_MENDED_CHARS = 1 << 20
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)

How = Literal["", "repaired", "kept_raw"]


def call_input(raw: Any) -> tuple[dict[str, Any], How]:
    """The object, and what had to be done for it."""
    if isinstance(raw, dict):
        return _kept(raw) if too_deep(raw) else (raw, "")
    value: Any = raw
    how: How = ""
    for _ in range(_MAX_ENCODINGS):
        if not isinstance(value, str):
            break
        if not value.strip():
            return {}, how
        try:
            value, changed = _decoded(value)
        except ValueError:
            return _kept(raw)
        how = "repaired" if changed or isinstance(value, str) else how
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value, how = value[0], "repaired"
    if value is None:
        return {}, "repaired"
    return _kept(raw) if not isinstance(value, dict) or too_deep(value) else (value, how)


def _kept(raw: Any) -> tuple[dict[str, Any], How]:
    if isinstance(raw, dict | list) and too_deep(raw):
        raw = to_json(raw).decode()
    return {RAW: whole_text(raw) if isinstance(raw, str) else raw}, "kept_raw"


def _decoded(text: str) -> tuple[Any, bool]:
    """The JSON that a text begins with, and whether that is not just what it is."""
    try:
        return msgspec.json.decode(text), False
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    text = text.strip()
    if fenced := _FENCE.match(text):
        text = fenced[1].strip()
    if len(text) > _MAX_MENDED_CHARS:
        raise ValueError("too long to be mended")
    try:
        value = decode_first(text)[0]
    except ValueError:
        value = decode_cut(text)
    try:
        return mended(value, "messages."), True
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
