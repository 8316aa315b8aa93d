"""What is known of a request whose body is refused: its model, and who asked.

For telemetry alone, so nothing about it is an error. A body that is no JSON tells nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from mlxdeck.server.dialects.anthropic.requests import session_of
from mlxdeck.server.dialects.client_names import MAX_NAME, ClientNames, client_names
from mlxdeck.server.dialects.openai_fields import session

MAX_READ_BYTES = 1 << 20
"""Of a longer body only the head's names are known."""


class _Names(msgspec.Struct):
    """All else is skipped, so that this takes a millisecond at most."""

    model: Any = None
    metadata: Any = None
    prompt_cache_key: Any = None
    session_id: Any = None


@dataclass(frozen=True, slots=True)
class RefusedBody:
    """What it says of itself."""

    model: str
    names: ClientNames


def refused_body(body: bytes, headers: Mapping[str, str]) -> RefusedBody:
    """Of any API."""
    found = _Names()
    if len(body) <= MAX_READ_BYTES:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = msgspec.json.decode(body, type=_Names)
    told = session_of(found.metadata) or session(msgspec.structs.asdict(found))
    model = found.model[:MAX_NAME] if isinstance(found.model, str) else ""
    return RefusedBody(model, client_names(headers, told))
