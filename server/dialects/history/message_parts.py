"""The content of a message in OpenAI's APIs: texts, media and parts of other types, as texts."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.chat import Message, Role, Text
from mlxdeck.server.dialects.history.foreign_blocks import told
from mlxdeck.server.dialects.history.media import Media, media
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.history.tool_results import TEXTS
from mlxdeck.server.dialects.json_fields import join, required, text, typed

_MEDIA_FIELDS = ("image_url", "file_data", "file_id", "file_url", "source")
"""The field of a part, by its type, that holds media, if it isn't named like the type."""


def texts(
    content: Any, path: str, role: Role, notes: Notes, *, refuse: bool = False
) -> tuple[Text, ...]:
    """All parts of a content, one empty text if it has none.

    Media are noted as unsupported if `refuse` is set.

    Raises:
        BadRequest: It is no content.
    """
    if content is None or isinstance(content, str):
        return (Text(content or ""),)
    parts = [
        Text(each)
        if isinstance(each, str)
        else _part(typed(each, dict, f"{path}.{i}"), f"{path}.{i}", role, notes, refuse=refuse)
        for i, each in enumerate(typed(content, list, path))
    ]
    return tuple(part for part in parts if part is not None) or (Text(""),)


def _part(
    part: dict[str, Any], path: str, role: Role, notes: Notes, *, refuse: bool
) -> Text | None:
    kind = text(part, "type", path)
    if kind in TEXTS:
        said = required(part, TEXTS[kind], path)
        return Text("" if said is None else text(part, TEXTS[kind], path))
    found = media(part)
    if isinstance(found, str):
        notes.add("read", kind)
        return Text(found)
    if isinstance(found, Media):
        if refuse:
            held = next((each for each in (kind, *_MEDIA_FIELDS) if each in part), kind)
            notes.refuse(found.refusal(join(path, held)))
        notes.add("replaced", kind)
        return found.text
    retold = told(part, kind, bare=role != "assistant")
    notes.add("told" if retold else "left_out", kind)
    if not retold:
        return None
    # Texts of the assistant's are put together without anything between them.
    return Text(f"\n{retold}\n" if role == "assistant" else retold)


def leading_system(messages: list[Message]) -> tuple[tuple[str, ...], tuple[Message, ...]]:
    """The texts of the system messages at the beginning, and the rest of the conversation."""
    n_leading = 0
    while n_leading < len(messages) and messages[n_leading].role == "system":
        n_leading += 1
    system = tuple(
        block.text
        for message in messages[:n_leading]
        for block in message.blocks
        if isinstance(block, Text)
    )
    return system, tuple(messages[n_leading:])
