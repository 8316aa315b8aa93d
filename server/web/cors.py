"""Cross-origin requests: headers for the browser, so that an accepted page can read answers.

https://fetch.spec.whatwg.org/#http-cors-protocol. Other pages get no such header.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from sanic import HTTPResponse, Request

from mlxdeck.server.web.hosts import may_be_origin, origin_name

EXPOSED = "request-id, x-request-id, x-mlxdeck-cache, x-mlxdeck-backend, retry-after"
MAX_AGE_S = 600
"""How long a browser may cache the answer to a preflight request, in seconds."""
_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~ ,-]{1,4096}")


def is_preflight(request: Request) -> bool:
    """Whether a browser asks in a page's name; such a request never carries a key."""
    return request.method == "OPTIONS"


def add_cors(request: Request, response: HTTPResponse, allowed: Collection[str]) -> None:
    """Add headers for the browser if the page may read this."""
    headers = request.headers
    origin = headers.get("origin", "")
    if not origin:
        return
    response.headers["vary"] = "Origin"
    name = origin_name(origin)
    if not name or not may_be_origin(name, allowed):
        return
    response.headers["access-control-allow-origin"] = origin
    response.headers["access-control-allow-credentials"] = "true"
    response.headers["access-control-expose-headers"] = EXPOSED
    if not is_preflight(request) or "allow" not in response.headers:
        return
    response.headers["access-control-allow-methods"] = response.headers["allow"]
    response.headers["access-control-max-age"] = str(MAX_AGE_S)
    asked = headers.get("access-control-request-headers", "")
    if _NAMES.fullmatch(asked):
        response.headers["access-control-allow-headers"] = asked
    if headers.get("access-control-request-private-network") == "true":
        response.headers["access-control-allow-private-network"] = "true"
