"""Blocks of messages, shortened for a copy: what they say, without pictures and long outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_TEXT = 8_000
"""Characters of a text that are kept; all of it is in the transcript."""
HASH_DIGITS = 12
_MAX_USER_TEXT = 200
_INTERRUPTED = "[Request interrupted by user"
_encode = msgspec.json.Encoder().encode


def blocks_of(content: Any) -> list[dict[str, Any]]:
    """Content as blocks; what is none of them is left out."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, dict)]


def shortened(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with long texts cut, and of pictures and documents only that they were there."""
    return [_short_block(block) for block in blocks]


def _short_block(block: dict[str, Any]) -> dict[str, Any]:
    kind = block.get("type")
    if kind in ("image", "document"):
        return {"type": "text", "text": f"({kind})"}
    return {name: _short(value) for name, value in block.items() if name != "signature"}


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{value[:MAX_TEXT]}… ({len(value) - MAX_TEXT:,} more characters)"
    if isinstance(value, list):
        return [_short_block(each) if isinstance(each, dict) else _short(each) for each in value]
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    return value


def as_json(value: Any) -> tuple[str, str]:
    """JSON text, and the short hash by which it is known."""
    raw = _encode(value)
    return raw.decode(), hashlib.sha256(raw).hexdigest()[:HASH_DIGITS]


def is_interruption(blocks: list[dict[str, Any]]) -> bool:
    """Whether the client writes down that the user stopped it."""
    return any(text.startswith(_INTERRUPTED) for text in _texts(blocks))


def user_text(blocks: list[dict[str, Any]]) -> str:
    """What the user says, shortened; empty of results, and of what the client says for itself."""
    for text in _texts(blocks):
        text = text.strip()
        if text and not text.startswith(("<", _INTERRUPTED, "Caveat:")):
            return text[:_MAX_USER_TEXT]
    return ""


def _texts(blocks: list[dict[str, Any]]) -> Iterator[str]:
    for block in blocks:
        if block.get("type") == "text" and isinstance(text := block.get("text"), str):
            yield text


def text_of(content: Any) -> str:
    """What a result or an error says."""
    return "\n".join(_texts(blocks_of(content)))
