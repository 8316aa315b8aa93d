"""Names of requests: the server's own, and the one that a client or its proxy has given.

Answers carry both: `request-id`, as Anthropic's clients read it, is always the server's.
`x-request-id`, as OpenAI's and proxies read it, is the client's if that has sent one. `traceparent`
names the client's span: https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import re
import secrets

from sanic import HTTPResponse, Request

_CLIENTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,127}")
"""Names that can stand in a header, a path and a log line."""
_TRACE_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
"""A later version may add fields behind these; a reader takes what it knows."""


def request_id(request: Request) -> str:
    """The server's name of a request."""
    ctx = request.ctx
    if not hasattr(ctx, "request_id"):
        ctx.request_id = f"req_{secrets.token_hex(12)}"
    return str(ctx.request_id)


def client_id(request: Request) -> str:
    """The client's name of it; empty if it has sent none, several or a malformed one."""
    sent = request.headers.getall("x-request-id", ())
    return sent[0] if len(sent) == 1 and _CLIENTS.fullmatch(sent[0]) else ""


def trace_parent(request: Request) -> str:
    """The client's span, without fields of later versions; empty if none or a malformed one."""
    sent = request.headers.getall("traceparent", ())
    if len(sent) != 1 or not (found := _TRACE_PARENT.match(sent[0])):
        return ""
    rest = sent[0][found.end() :]
    is_known = not rest or (rest.startswith("-") and not sent[0].startswith("00"))
    return found[0] if is_known else ""


def add_request_ids(request: Request, response: HTTPResponse) -> None:
    """Name the request in its answer, whatever the answer is."""
    own = request_id(request)
    response.headers["request-id"] = own
    response.headers["x-request-id"] = client_id(request) or own
