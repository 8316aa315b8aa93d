"""Fields that several of OpenAI's APIs share."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.dialects.json_fields import typed
from mlxdeck.server.dialects.sampling import stop_texts


def stop_sequences(fields: dict[str, Any]) -> tuple[str, ...]:
    """`stop`: one text or several."""
    stop = fields.get("stop") or []
    return stop_texts([stop] if isinstance(stop, str) else typed(stop, list, "stop"), "stop")


def stream_usage(fields: dict[str, Any]) -> bool:
    """Whether a stream ends with token counts."""
    options = typed(fields.get("stream_options") or {}, dict, "stream_options")
    return typed(options.get("include_usage") or False, bool, "stream_options.include_usage")


def session(fields: dict[str, Any]) -> str:
    """What clients name a conversation by, for telemetry alone; nothing about it is an error."""
    key = fields.get("prompt_cache_key") or fields.get("session_id")
    return key if isinstance(key, str) else ""
