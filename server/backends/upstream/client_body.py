"""The client's own words as they go to another server, and what of them decides the answer. Pure.

Clients change accounts, cache marks and ids from turn to turn. These don't decide an answer, so
they don't decide its key. Whatever else is sent does.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from mlxdeck.server.cache.cache_keys import digest
from mlxdeck.server.canonicalize import clean_system
from mlxdeck.server.chat import ClientBody
from mlxdeck.server.dialects.sse import to_json

ASIDE = frozenset(
    {
        *("model", "stream", "stream_options", "user", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "session_id", "store", "cache_control"),
    }
)
"""Fields of a body that say who asks and how the answer is to come, not what is asked."""
KEYED_HEADERS = ("anthropic-version", "anthropic-beta")
_IDS = frozenset({"id", "tool_use_id", "tool_call_id", "call_id"})
_DATA = frozenset({"input", "arguments", "input_schema", "parameters", "source", "image_url"})
"""Below these names is data of the user or of a model, which is never changed."""
_MARK = "cache_control"


def body_digest(client: ClientBody, rules_off: Collection[str]) -> str:
    """A digest of all that decides the answer."""
    fields = {key: value for key, value in client.fields.items() if key not in ASIDE}
    headers = [client.headers.get(name, "") for name in KEYED_HEADERS]
    plain = _Plain(plain_ids="tool_ids" not in rules_off)
    for key in ("messages", "input", "system", "tools"):
        if key in fields:
            fields[key] = plain.of(fields[key])
    tags = fields.pop("metadata", None)
    # Names of accounts and sessions differ from run to run.
    if isinstance(tags, dict) and (rest := {k: v for k, v in tags.items() if k[-3:] != "_id"}):
        fields["metadata"] = rest
    asked = [client.dialect, headers, canonical_fields(fields, rules_off)]
    try:
        return digest(asked)
    except OverflowError:
        return digest(json.dumps(asked, sort_keys=True))


def encoded(fields: dict[str, Any]) -> bytes:
    """A body as JSON, also with integers of more than 64 bits."""
    try:
        return to_json(fields)
    except OverflowError:
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def canonical_fields(fields: dict[str, Any], rules_off: Collection[str]) -> dict[str, Any]:
    """A body without accounting in its system texts; a changed body is a new one."""
    changed = dict(fields)
    if "system" in fields:
        changed["system"] = _cleaned(fields["system"], rules_off)
    messages = fields.get("messages")
    if isinstance(messages, list):
        cleaned = [_message(each, rules_off) for each in messages]
        changed["messages"] = [each for each in cleaned if each is not None]
    return changed


def _message(message: Any, rules_off: Collection[str]) -> Any:
    if not isinstance(message, dict) or message.get("role") not in ("system", "developer"):
        return message
    content = message.get("content")
    clean = _cleaned(content, rules_off)
    # One that held nothing else goes.
    return {**message, "content": clean} if clean or not content else None


def _cleaned(content: Any, rules_off: Collection[str]) -> Any:
    """System text, or a list of its blocks; one that held nothing else goes."""
    if isinstance(content, str):
        return clean_system(content, rules_off, first=True)
    if not isinstance(content, list):
        return content
    cleaned = []
    for place, block in enumerate(content):
        text = block.get("text") if isinstance(block, dict) else None
        if isinstance(text, str):
            clean = clean_system(text, rules_off, first=not place)
            if clean != text and not clean.strip():
                continue
            block = {**block, "text": clean}
        cleaned.append(block)
    return cleaned


class _Plain:
    """Takes cache marks out, and numbers ids in the order in which they come."""

    def __init__(self, *, plain_ids: bool) -> None:
        self._plain_ids = plain_ids
        self._ids: dict[str, int] = {}

    def of(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.of(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {key: self._field(key, each) for key, each in value.items() if key != _MARK}

    def _field(self, key: str, value: Any) -> Any:
        if key in _DATA:
            return value
        if key in _IDS and isinstance(value, str) and self._plain_ids:
            return self._ids.setdefault(value, len(self._ids))
        return self.of(value)
