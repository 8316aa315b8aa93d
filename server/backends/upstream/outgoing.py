"""A request as it goes out to another server. Pure."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.backends.upstream.anthropic_request import anthropic_fields
from mlxdeck.server.backends.upstream.client import Sent
from mlxdeck.server.backends.upstream.client_body import canonical_fields, encoded
from mlxdeck.server.backends.upstream.config import UpstreamConfig
from mlxdeck.server.backends.upstream.openai_request import openai_fields
from mlxdeck.server.backends.upstream.strict_history import strict_history
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.errors import UnreadablePart

ANTHROPIC_VERSION = "2023-06-01"


def outgoing(chat: ChatRequest, dialect: str, model: str, config: UpstreamConfig) -> Sent:
    """The client's own body, where it speaks the same API, else the same in the other's words.

    Raises:
        BadRequest: The other API has no words for something.
    """
    fields = _fields(chat, dialect, config) | {"model": model, "stream": True}
    if dialect == "openai":
        asked = fields.get("stream_options")
        asked = asked if isinstance(asked, dict) else {}
        fields["stream_options"] = asked | {"include_usage": True}
        return Sent(dialect, "/chat/completions", {}, encoded(fields))
    return Sent(dialect, *_messages_head(chat, "/messages"), encoded(fields))


def outgoing_count(chat: ChatRequest, model: str, config: UpstreamConfig) -> Sent:
    """A request for a count, by Anthropic's API."""
    fields = _fields(chat, "anthropic", config)
    if not is_own(chat, "anthropic"):
        known = ("system", "messages", "tools", "tool_choice", "thinking")
        fields = {key: value for key, value in fields.items() if key in known}
    path, headers = _messages_head(chat, "/messages/count_tokens")
    return Sent("anthropic", path, headers, encoded(fields | {"model": model}))


def notes(chat: ChatRequest, config: UpstreamConfig) -> tuple[str, ...]:
    """What is left out of the client's own words, if these go out."""
    client = chat.client
    is_strict = client is not None and client.dialect == "anthropic" and config.is_strict
    return strict_history(client.fields)[1] if client is not None and is_strict else ()


def is_own(chat: ChatRequest, dialect: str) -> bool:
    """Whether the client's own words go out."""
    return chat.client is not None and chat.client.dialect == dialect


def _messages_head(chat: ChatRequest, path: str) -> tuple[str, dict[str, str]]:
    headers = {"anthropic-version": ANTHROPIC_VERSION}
    if chat.client is not None and is_own(chat, "anthropic"):
        told = chat.client.headers.items()
        headers |= {name: value for name, value in told if value.isascii() and value.isprintable()}
    # As the SDKs ask for what is in beta.
    return f"{path}?beta=true" if "anthropic-beta" in headers else path, headers


def _fields(chat: ChatRequest, dialect: str, config: UpstreamConfig) -> dict[str, Any]:
    client = chat.client
    if client is not None and client.dialect == dialect:
        fields = client.fields
        if config.canonical:
            fields = canonical_fields(fields, config.rules_off)
        is_strict = dialect == "anthropic" and config.is_strict
        return strict_history(fields)[0] if is_strict else fields
    if chat.unsupported and chat.unsupported[0].partition(".")[0] not in ("messages", "input"):
        # What the messages hold can be sent in either API's words.
        raise UnreadablePart(*chat.unsupported)
    if dialect == "openai":
        return openai_fields(chat, hosted=config.hosted)
    return anthropic_fields(chat, hosted=config.hosted)
