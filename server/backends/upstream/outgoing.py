"""A request as it goes out to another server. Pure."""

from __future__ import annotations

from mlxdeck.server.backends.upstream.client import Sent
from mlxdeck.server.backends.upstream.client_body import canonical_fields, encoded
from mlxdeck.server.backends.upstream.config import UpstreamConfig
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.errors import BadRequest

ANTHROPIC_VERSION = "2023-06-01"


def outgoing(chat: ChatRequest, dialect: str, model: str, config: UpstreamConfig) -> Sent:
    """The client's own body, where it speaks the same API.

    Raises:
        BadRequest: It can't be put into the other API's words.
    """
    client = chat.client
    if client is None or client.dialect != dialect:
        raise BadRequest("", f"the upstream {config.name} speaks another API")
    fields = (
        canonical_fields(client.fields, config.rules_off) if config.canonical else client.fields
    )
    fields = {**fields, "model": model, "stream": True}
    headers = {"anthropic-version": ANTHROPIC_VERSION, **client.headers}
    # As the SDKs ask for what is in beta.
    path = "/messages?beta=true" if "anthropic-beta" in headers else "/messages"
    return Sent(dialect, path, encoded(fields), headers)
