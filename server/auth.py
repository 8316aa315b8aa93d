"""Who may ask: the key, the Host and the Origin, judged by the head of a request alone. Pure.

A web page must not use a server that listens for this machine only. Its origin gives it away, and
so does the Host where its own name was made to lead here (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mlxdeck.server.errors import BadHttp, Forbidden, Unauthorized
from mlxdeck.server.web.hosts import hostname, may_be_host, may_be_origin, origin_name

OPEN_PATHS = frozenset({"/", "/health"})
"""What answers without an API key."""
_SCHEMES = ("bearer", "token")


@dataclass(frozen=True, slots=True)
class Gate:
    """What lets a request in."""

    keys: tuple[str, ...]
    """Accepted keys; without any, every client is accepted."""
    local: bool
    """Whether the server listens on this machine only; then Host must name this machine."""
    allowed: Collection[str] = ()
    """More names that the user lets in, as Host and as Origin."""

    def admit(self, headers: Mapping[str, str], path: str, *, keyless: bool = False) -> None:
        """Judge the head of a request; one that is `keyless` never carries a key.

        Raises:
            BadHttp: Its Host or Origin is malformed.
            Forbidden: A web page is behind it.
            Unauthorized: A key is set, and this is not it.
        """
        host = headers.get("host")
        if self.local and host is not None:
            name = hostname(host)
            if name is None:
                raise BadHttp("the host header is malformed")
            if not may_be_host(name, self.allowed):
                raise _forbidden(host)
        if "origin" in headers:
            origin = headers["origin"]
            name = origin_name(origin)
            if name is None:
                raise BadHttp("the origin header is malformed")
            if not may_be_origin(name, self.allowed):
                raise _forbidden(origin)
        if self.keys and path not in OPEN_PATHS and not keyless:
            sent = _bytes_of(sent_key(headers))
            # Compares all keys, so that the time reveals nothing.
            fits = [hmac.compare_digest(sent, key.encode()) for key in self.keys]
            if not any(fits):
                raise Unauthorized("missing or wrong API key")

    def owner(self, headers: Mapping[str, str]) -> str:
        """A digest of the key that let a request in; empty if there are no keys."""
        if not self.keys:
            return ""
        return hashlib.sha256(_bytes_of(sent_key(headers))).hexdigest()

    def check_first(self, headers: Mapping[str, str]) -> None:
        """Of several keys, let only the first one see what concerns the clients of all.

        Raises:
            Forbidden: It is another one.
        """
        if self.keys[1:] and not hmac.compare_digest(
            _bytes_of(sent_key(headers)), self.keys[0].encode()
        ):
            raise Forbidden("only the first API key may read the telemetry of all clients")


def _bytes_of(key: str) -> bytes:
    """Bytes that are no UTF-8 come as surrogates."""
    return key.encode("utf-8", "surrogatepass")


def sent_key(headers: Mapping[str, str]) -> str:
    """The key that a request brings, as Anthropic's clients or as OpenAI's send it."""
    if key := headers.get("x-api-key"):
        return key
    scheme, _, rest = headers.get("authorization", "").strip().partition(" ")
    return rest.strip() if rest and scheme.lower() in _SCHEMES else scheme


def _forbidden(sender: str) -> Forbidden:
    return Forbidden(f"requests from {sender[:100]!r} are not accepted")
