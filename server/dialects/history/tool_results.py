"""A tool's result, in either API, as one text. Nothing in it is refused: no user wrote it."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.dialects.history.foreign_blocks import told
from mlxdeck.server.dialects.history.media import Media, media
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.sse import to_json

TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""The field of a part, by its type, that holds its text."""


def result_text(content: Any, notes: Notes) -> str:
    """The texts of all parts, a line each."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [_part(each, notes) for each in (content if isinstance(content, list) else [content])]
    return "\n".join(part for part in parts if part)


def _part(part: Any, notes: Notes) -> str:
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
    return found.placeholder() if isinstance(found, Media) else found
