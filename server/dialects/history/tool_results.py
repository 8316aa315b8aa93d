"""A tool's result, in either API, as one text. Nothing in it is refused: no user wrote it."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.chat import MediaText, ResultWithMedia, Text, ToolResult
from mlxdeck.server.dialects.history.foreign_blocks import told
from mlxdeck.server.dialects.history.media import Media, media
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.sse import to_json

TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""The field of a part, by its type, that holds its text."""


def result(call_id: str, content: Any, notes: Notes, *, is_error: bool = False) -> ToolResult:
    """The texts of all parts, a line each, and media if there are some."""
    if content is None or isinstance(content, str):
        return ToolResult(call_id, content or "", is_error)
    parts = [_part(each, notes) for each in (content if isinstance(content, list) else [content])]
    parts = [part for part in parts if part.text]
    text = "\n".join(part.text for part in parts)
    if any(isinstance(part, MediaText) for part in parts):
        return ResultWithMedia(call_id, text, is_error, tuple(parts))
    return ToolResult(call_id, text, is_error)


def _part(part: Any, notes: Notes) -> Text:
    found = _text(part, notes)
    return Text(found) if isinstance(found, str) else found


def _text(part: Any, notes: Notes) -> str | MediaText:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        # Some clients send a tool's result without any wrapper.
        said = part.get("text") if isinstance(part, dict) else None
        return said if isinstance(said, str) else to_json(part).decode()
    if isinstance(said := part.get(TEXTS.get(kind, "")), str):
        return said
    found = media(part)
    if found is None:
        notes.add("told", kind)
        return told(part, kind, bare=True)
    notes.add("replaced" if isinstance(found, Media) else "read", kind)
    return found.text if isinstance(found, Media) else found
