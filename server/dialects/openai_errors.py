"""Errors in the shape of OpenAI's APIs, https://platform.openai.com/docs/guides/error-codes."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.errors import (
    BadRequest,
    Cancelled,
    NotFound,
    PromptTooLong,
    ServerError,
    Unauthorized,
    UnknownModel,
    UnknownPrevious,
    UnknownRequest,
    UnknownStored,
    UpstreamRefused,
)

_TOO_LONG = "context_length_exceeded"
_TOO_LONG_TEXT = "prompt is too long: "
"""How Anthropic's API says so, and this server for every other upstream."""
_CODES: tuple[tuple[type[ServerError], str | None], ...] = (
    (PromptTooLong, _TOO_LONG),
    (Unauthorized, "invalid_api_key"),
    (UnknownModel, "model_not_found"),
    (UnknownPrevious, "previous_response_not_found"),
    (UnknownStored, None),
    (UnknownRequest, None),
    (NotFound, "unknown_url"),
    (Cancelled, "request_cancelled"),
)
"""The first type that fits counts."""


def error_code(error: ServerError) -> str | None:
    """The word for it that clients look for."""
    if isinstance(error, UpstreamRefused):
        if error.message.startswith(_TOO_LONG_TEXT):
            return _TOO_LONG
        code = error.fields.get("code") if error.dialect == "openai" else None
        return code if isinstance(code, str) else None
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


def error_body(error: ServerError) -> dict[str, Any]:
    """An error as a body."""
    param = error.path or None if isinstance(error, BadRequest | UnknownStored) else None
    body: dict[str, object] = {
        "message": error.message,
        "type": error.kind,
        "param": param,
        "code": error_code(error),
    }
    if isinstance(error, UpstreamRefused) and error.dialect == "openai":
        body = {**body, **error.fields, "code": body["code"] or error.fields.get("code")}
    return {"error": body}
