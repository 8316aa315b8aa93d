"""Blocks without a place in chat templates, as text: other servers' tools, and new types.

Pure, and a function of the block alone, so that prompts stay equal.
"""

from __future__ import annotations

from typing import Any

from mlxdeck.server.dialects.history.media import Media, media
from mlxdeck.server.dialects.sse import to_json

NO_NAME = "unknown"
"""Name of a call that names no tool."""
_MAX_DEPTH = 12
_MAX_HEAD = 256
_MAX_KIND = 64
_BODY = frozenset(
    {"text", "content", "stdout", "stderr", "output", "result", "results", "summary", "lines"}
)
_DATA = frozenset({"input", "arguments", "parameters"})
# Names of things elsewhere, and what only their maker can read.
_OPAQUE = frozenset(
    {"type", "id", "tool_use_id", "call_id", "cache_control", "citations", "signature", "data"}
)


def told(block: dict[str, Any], kind: str, *, bare: bool) -> str:
    """Name and readable parts of a block; empty where there are none, unless `bare` names do."""
    heads: list[str] = []
    bodies: list[str] = []
    _gather(block, heads, bodies, _MAX_DEPTH)
    if not heads and not bodies and not bare:
        return ""
    about = f": {'; '.join(heads)}" if heads else ""
    return "\n".join([f"[{kind[:_MAX_KIND]}{about}]", *bodies])


def _gather(fields: dict[str, Any], heads: list[str], bodies: list[str], depth: int) -> None:
    for key, value in fields.items():
        if key in _OPAQUE or key.startswith("encrypted") or value is None or value is False:
            continue
        if key in _DATA and isinstance(value, dict | list):
            heads.append(to_json(value).decode())
        elif isinstance(value, str):
            _text(key, value, heads, bodies)
        elif isinstance(value, bool):
            heads.append(key[:_MAX_HEAD])
        elif isinstance(value, int | float):
            heads.append(f"{key[:_MAX_HEAD]} {value!r:.40}")
        else:
            _nested(value, heads, bodies, depth - 1)


def _nested(value: Any, heads: list[str], bodies: list[str], depth: int) -> None:
    if depth < 0:
        return
    for each in value if isinstance(value, list) else (value,):
        if isinstance(each, str):
            bodies.append(each)
        elif isinstance(each, list):
            _nested(each, heads, bodies, depth - 1)
        elif isinstance(each, dict):
            found = media(each)
            if found is None:
                _gather(each, heads, bodies, depth)
            else:
                bodies.append(found.placeholder() if isinstance(found, Media) else found)


def _text(key: str, value: str, heads: list[str], bodies: list[str]) -> None:
    if not value:
        return
    if key in _BODY or "\n" in value:
        bodies.append(value)
    elif len(value) <= _MAX_HEAD:
        heads.append(value)
    elif " " in value:
        bodies.append(value)
    else:
        heads.append(f"{key[:_MAX_HEAD]} of {len(value)} characters")
