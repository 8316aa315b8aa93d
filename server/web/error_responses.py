"""Errors as responses: any exception as one that a client may see, in the shape of its API."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sanic import HTTPResponse, Request
from sanic.exceptions import MethodNotAllowed, SanicException
from sanic.response import raw

from mlxdeck.server.dialects.base import Dialect
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import (
    BadHttp,
    NotFound,
    ServerError,
    Stopping,
    TooLarge,
    WrongMethod,
    let_go,
)
from mlxdeck.server.web.incoming_bodies import drop_body
from mlxdeck.server.web.request_ids import request_id

log = logging.getLogger(__name__)

JSON = "application/json"
_HEAD_TOO_LARGE = "Request header"
"""How Sanic's text begins where it is the head, and not the body, that is too large."""


async def on_error(request: Request, error: Exception) -> HTTPResponse:
    """Answer anything that no handler caught in the shape of the route's API."""
    await drop_body(request.stream)
    known = known_error(request, error)
    if isinstance(known, WrongMethod) and request.method == "OPTIONS":
        # The methods of a route are no secret, and browsers ask before they send a key.
        return HTTPResponse(status=204, headers=known.headers)
    if isinstance(known, Stopping) and request.stream is not None:
        # The client's next request should find another server, not this one's end.
        request.stream.keep_alive = False  # type: ignore[attr-defined]
    if known.status >= 500 and not isinstance(error, ServerError):
        log.error("%s %s failed", request.method, path_of(request), exc_info=error)
    let_go(error)
    return error_response(dialect_of(request), known, request_id(request))


def known_error(request: Request, error: Exception) -> ServerError:
    """An exception of ours or Sanic's as one that a client may see."""
    if isinstance(error, ServerError):
        return error
    status = error.status_code if isinstance(error, SanicException) else 500
    asked = f"{request.method} {path_of(request)}"[:200]
    if status == NotFound.status:
        return NotFound(f"no such route: {asked}; this server has {_routes(request)}")
    if isinstance(error, MethodNotAllowed):
        allowed = {*str(error.headers.get("Allow", "")).replace(" ", "").split(","), "OPTIONS"}
        allowed.discard("")
        return WrongMethod(
            f"{asked} is not served; the route has {', '.join(sorted(allowed))}", allowed
        )
    if status == TooLarge.status and not str(error).startswith(_HEAD_TOO_LARGE):
        return TooLarge("the request body is too large")
    if status == TooLarge.status:
        return BadHttp("the request's head is too large", 431)
    if 400 <= status < 500:
        return BadHttp(f"bad HTTP: {error}", status)
    return ServerError("internal error")


def dialect_of(request: Request) -> Dialect:
    """The API that a client speaks, by the path, else by the headers that only its clients send."""
    path = path_of(request)
    for dialect in _served(request).values():
        if any(path == root or path.startswith(f"{root}/") for root in dialect.roots):
            return dialect
    if "anthropic-version" in request.headers or "x-api-key" in request.headers:
        return DIALECTS["anthropic"]
    return DIALECTS["openai" if path.startswith("/v1/") else "anthropic"]


def path_of(request: Request) -> str:
    """The path, also of a request that has none."""
    path: bytes | None = request._parsed_url.path
    return (path or b"").decode("utf-8", "replace")


def error_response(dialect: Dialect, error: ServerError, named: str) -> HTTPResponse:
    """An error as a status and a body of the dialect's shape; `named` is the request's id."""
    body = dialect.encode_error(error, named)
    return raw(body, status=error.status, content_type=JSON, headers=error.headers)


def _served(request: Request) -> Mapping[str, Dialect]:
    """All dialects, those of plug-ins included."""
    found: Mapping[str, Dialect] = request.app.ctx.dialects
    return found


def _routes(request: Request) -> str:
    return ", ".join(f"POST {dialect.path}" for dialect in _served(request).values())
