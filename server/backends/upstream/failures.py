"""What goes wrong with another server, as errors that a client of ours may see.

Each keeps the status, the type and the text, `retry-after` and rate limits. Keys are masked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from mlxdeck.server.errors import UpstreamFailed, UpstreamRefused

KINDS_BY_STATUS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""https://docs.anthropic.com/en/api/errors"""
STATUS_BY_KIND: Mapping[str, int] = {
    **{kind: status for status, kind in reversed(tuple(KINDS_BY_STATUS.items()))},
    "overloaded_error": 529,
    "api_error": 500,
}
PASSED_HEADERS = re.compile(r"retry-after(-ms)?|(anthropic-|x-)?rate-?limit-.+|x-should-retry")
MAX_MESSAGE = 2_000
MASK = "[key]"
_LEAST_KEY_CHARS = 8
_KEY = re.compile(r"\b(sk|pk|api|key)-[A-Za-z0-9_*-]{8,}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")
_WINDOWS = (
    re.compile(r"maximum context length is (?P<most>\d+) tokens.*?(?P<n>\d+) tokens", re.DOTALL),
    re.compile(r"\((?P<n>\d+) tokens\).*context size \((?P<most>\d+) tokens\)", re.DOTALL),
)
"""What OpenAI and vLLM, and llama.cpp, write if a prompt is too long."""


def refused(
    status: int, body: bytes, headers: Mapping[str, str], name: str, key: str, dialect: str
) -> UpstreamRefused:
    """An answer with an error's status."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    error = error_of(told, status, name, key, dialect)
    error.headers = {
        each.lower(): masked(value, key)
        for each, value in headers.items()
        if PASSED_HEADERS.fullmatch(each.lower())
    }
    return error


def error_of(told: Any, status: int, name: str, key: str, dialect: str) -> UpstreamRefused:
    """An error in the shape of either API, or in none; a `status` of 0 is not known."""
    inner = told.get("error", told) if isinstance(told, dict) else told
    fields = inner if isinstance(inner, dict) else {"message": inner}
    kind = str(fields.get("type"))
    if not status:
        status = STATUS_BY_KIND.get(kind, 0) or _as_status(fields.get("code")) or 500
    if kind not in STATUS_BY_KIND:
        kind = KINDS_BY_STATUS.get(status, "invalid_request_error" if status < 500 else "api_error")
    text = fields.get("message") or fields.get("detail")
    if not isinstance(text, str) or not text.strip():
        text = f"the upstream {name} answered with {status} {_phrase(status)}".rstrip()
    text = masked(text, key)
    if status in (400, 413) and (found := next(filter(None, _windows(text)), None)):
        # Claude Code looks for this sentence, and then compacts the conversation.
        text = f"prompt is too long: {found['n']} tokens > {found['most']} maximum"
    error = UpstreamRefused(text, status, kind)
    if dialect == "openai":
        own = {each: fields[each] for each in ("type", "param", "code") if each in fields}
        error.dialect, error.fields = dialect, _masked_all(own, key)
    return error


def failed(what: str, name: str, key: str, status: int = 502) -> UpstreamFailed:
    """A fault of the connection, or of what came over it."""
    return UpstreamFailed(masked(f"the upstream {name} {what}", key), status)


def masked(text: str, key: str) -> str:
    """One short line without the key, whole or in part, and without what looks like one."""
    text = _UNPRINTABLE.sub(" ", text[: 4 * MAX_MESSAGE])
    n = _LEAST_KEY_CHARS
    if key and len(key) < n:
        text = text.replace(key, MASK)
    at = 0
    while len(key) >= n and at + n <= len(text):
        length = 0
        if text[at : at + n] in key:
            length = n
            while at + length < len(text) and text[at : at + length + 1] in key:
                length += 1
            text = text[:at] + MASK + text[at + length :]
        at += len(MASK) if length else 1
    return _KEY.sub(MASK, text)[:MAX_MESSAGE]


def _masked_all(value: dict[str, Any], key: str) -> dict[str, Any]:
    shown = (str, int, float, bool, type(None))
    return {
        name: masked(each, key) if isinstance(each, str) else each
        for name, each in value.items()
        if isinstance(each, shown)
    }


def _windows(text: str) -> list[re.Match[str] | None]:
    return [window.search(text) for window in _WINDOWS]


def _as_status(code: object) -> int:
    return code if isinstance(code, int) and 400 <= code <= 599 else 0


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
