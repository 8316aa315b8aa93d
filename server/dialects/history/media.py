"""Replacements for pictures, documents and sound, which a text model can't take.

Text documents need no replacement: they are read.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from mlxdeck.server.chat import MediaText
from mlxdeck.server.errors import BadRequest

_MAX_NAME = 200
_NOUNS = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "document": "document",
    "file": "document",
    "input_file": "document",
    "audio": "audio",
    "input_audio": "audio",
    "audio_url": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
}
# Claude Code removes a block and continues if an error has one of these texts and the block's path.
_REFUSED = {"image": "Could not process image", "document": "Could not process PDF"}


@dataclass(frozen=True, slots=True)
class Media:
    """One block that isn't text."""

    kind: str
    """Its type as the API writes it."""
    media_type: str = ""
    name: str = ""
    data: str = field(default="", repr=False)
    """In base64; empty where it isn't in the request, as behind a URL."""
    url: str = field(default="", repr=False)

    @property
    def noun(self) -> str:
        """Type of the block."""
        return _NOUNS[self.kind]

    @property
    def text(self) -> MediaText:
        """It with its replacement, which is the same at every place, so that prompts stay equal."""
        said = self.placeholder()
        return MediaText(said, self.noun, self.media_type, self.data, self.url, self.name)

    def placeholder(self) -> str:
        """The replacement alone."""
        size = f"{_n_bytes(self.data):,} bytes" if self.data else ""
        facts = ", ".join(fact for fact in (self.name, self.media_type, size) if fact)
        about = f" ({facts})" if facts else ""
        return f"[{self.noun}{about}: left out, because this model reads text only]"

    def refusal(self, path: str) -> BadRequest:
        """The error for one that the user has just sent; `path` is of the field that holds it."""
        said = _REFUSED.get(self.noun, f"Could not process {self.noun}")
        return BadRequest(path, f"{said}: this model reads text only")


def media(block: dict[str, Any]) -> Media | str | None:
    """A block of Anthropic's or OpenAI's: the text of a document, or the unreadable medium.

    None for blocks of other types.
    """
    kind = block.get("type")
    if not isinstance(kind, str) or kind not in _NOUNS:
        return None
    source = block.get("source")
    if isinstance(source, dict):
        return _of_anthropic(kind, block, source)
    inner = block.get(kind, block.get("image_url"))
    fields = inner if isinstance(inner, dict) else block
    url: Any = inner if isinstance(inner, str) else fields.get("url") or fields.get("file_data")
    name = _short(fields.get("filename") or fields.get("file_id"))
    if isinstance(url, str) and url.startswith("data:"):
        head, _, encoded = url[5:].partition(",")
        return _encoded(kind, _short(head.partition(";")[0]), name, encoded, "")
    url = url if isinstance(url, str) else ""
    data = fields.get("data")
    data = data if isinstance(data, str) else ""
    return Media(kind, _short(fields.get("format")), name or _short(url), data, url)


def _of_anthropic(kind: str, block: dict[str, Any], source: dict[str, Any]) -> Media | str:
    title, context = block.get("title"), block.get("context")
    heads = "\n".join(each for each in (title, context) if isinstance(each, str) and each)
    how, media_type, data = source.get("type"), _short(source.get("media_type")), source.get("data")
    if how == "text" and isinstance(data, str):
        return f"{heads}\n{data}" if heads else data
    if how == "content":
        said = _texts(source.get("content"))
        return f"{heads}\n{said}" if heads else said
    name = _short(title or source.get("url") or source.get("file_id"))
    if isinstance(data, str):
        return _encoded(kind, media_type, name, data, heads)
    url = source.get("url")
    return Media(kind, media_type, name, url=url if isinstance(url, str) else "")


def _texts(content: Any) -> str:
    """The text of a document that is made of blocks."""
    if isinstance(content, str):
        return content
    said = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(text := part.get("text"), str):
            said.append(text)
        elif isinstance(part, dict) and isinstance(found := media(part), Media):
            said.append(found.placeholder())
    return "\n".join(said)


def _encoded(kind: str, media_type: str, name: str, data: str, heads: str) -> Media | str:
    if media_type.startswith("text/") or media_type == "application/json":
        try:
            text = base64.b64decode(data, validate=False).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            text = data
        head = heads or name
        return f"{head}\n{text}" if head else text
    return Media(kind, media_type, name, data)


def _n_bytes(data: str) -> int:
    """How many bytes there are behind base64."""
    return len(data.rstrip("=")) * 3 // 4


def _short(value: Any) -> str:
    return value[:_MAX_NAME] if isinstance(value, str) else ""
