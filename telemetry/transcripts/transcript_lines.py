"""Lines of Claude Code's transcripts: what is read of them. Pure.

The form is not documented. It was learnt from what the client writes (2.1) and from what others
have found of earlier versions. A line that is of another form is skipped.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class TokenUsage(msgspec.Struct, gc=False):
    """Tokens. Each block of an answer repeats it; early blocks may say too little of the output."""

    input_tokens: int | None = None
    """Without the cached ones and those that are written to a cache."""
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class TranscriptMessage(msgspec.Struct):
    """What the API was sent, or one block of what it answered."""

    id: str | None = None
    """Of an answer; its blocks have the same."""
    role: str | None = None
    model: str | None = None
    content: Any = None
    """A text, or blocks as the API has them."""
    stop_reason: str | None = None
    usage: TokenUsage | None = None


class Params(msgspec.Struct):
    """Of a request."""

    model: str | None = None
    max_tokens: int | None = None
    thinking: dict[str, Any] | None = None


class Shape(msgspec.Struct):
    """What several requests have in common."""

    system: Any = None
    tools: list[dict[str, Any]] | None = None


class TranscriptLine(msgspec.Struct):
    """One line of any kind."""

    type: str = ""
    subtype: str | None = None
    timestamp: str | None = None
    session: str | None = msgspec.field(default=None, name="sessionId")
    agent: str | None = msgspec.field(default=None, name="agentId")
    is_sidechain: bool | None = msgspec.field(default=None, name="isSidechain")
    uuid: str | None = None
    parent_uuid: str | None = msgspec.field(default=None, name="parentUuid")
    message: TranscriptMessage | None = None
    is_meta: bool | None = msgspec.field(default=None, name="isMeta")
    request_id: str | None = msgspec.field(default=None, name="requestId")
    """The API's name of the request."""
    request_ref: str | None = msgspec.field(default=None, name="requestRef")
    """The `id` of the line `api-request` that this answers; only in later versions."""
    duration_ms: float | None = msgspec.field(default=None, name="durationMs")
    """How long the request took; only in the first versions."""
    is_api_error: bool | None = msgspec.field(default=None, name="isApiErrorMessage")
    status: Any = msgspec.field(default=None, name="apiErrorStatus")
    error: Any = None
    id: str | None = None
    params: Params | None = None
    base: str | None = None
    """The request before that this one goes on with."""
    tail: list[Any] | None = None
    """What it adds to that; nothing where the same is asked again."""
    shape_hash: str | None = msgspec.field(default=None, name="shapeHash")
    shape: Shape | None = None

    @property
    def ts(self) -> float | None:
        """Unix seconds."""
        try:
            return datetime.fromisoformat(self.timestamp or "").timestamp()
        except (ValueError, OverflowError, OSError):
            return None


_HEAD_BYTES = 200
_OTHERS = (b'{"type":"api-request-blob"', b'{"type":"progress"', b'{"type":"file-history')
_decode = msgspec.json.Decoder(TranscriptLine).decode


def line_of(raw: bytes) -> TranscriptLine | None:
    """One line; None if it has nothing for us, or another form."""
    if raw.startswith(_OTHERS) or b'"attachment":{' in raw[:_HEAD_BYTES]:
        # Long, and many.
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
