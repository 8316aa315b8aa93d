"""Who may ask: the key, the Host and the Origin, judged by the head of a request alone. Pure.

A web page must not use a server that listens for this machine only. Its origin gives it away, and
so does the Host where its own name was made to lead here (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlxdeck.server.errors import BadRequest, Forbidden, Unauthorized

OPEN_PATHS = frozenset({"/", "/health"})
"""What answers without an API key."""
LOCAL_NAMES = frozenset(
    {"localhost", "host.docker.internal", "gateway.docker.internal", "host.containers.internal"}
)
"""Names of this machine, also as seen from its containers."""
_SCHEMES = ("bearer", "token")


@dataclass(frozen=True, slots=True)
class Gate:
    """What lets a request in."""

    api_key: str
    """Empty lets everybody in."""
    local: bool
    """Whether the server listens for this machine only, so that no other Host is meant."""

    def admit(self, headers: Mapping[str, str], path: str) -> None:
        """Judge the head of a request.

        Raises:
            BadRequest: Its Host is malformed.
            Forbidden: A web page is behind it.
            Unauthorized: A key is set, and this is not it.
        """
        if self.local:
            host = headers.get("host", "")
            name = _name(f"//{host}")
            if name is None:
                raise BadRequest("", "the Host header is malformed")
            if not is_local(name):
                raise _forbidden(host)
        if origin := headers.get("origin", ""):
            name = _name(origin)
            if name is None or not is_local(name):
                raise _forbidden(origin)
        if self.api_key and path not in OPEN_PATHS:
            # Bytes that are no UTF-8 come as surrogates.
            sent = sent_key(headers).encode("utf-8", "surrogatepass")
            if not hmac.compare_digest(sent, self.api_key.encode()):
                raise Unauthorized("missing or wrong API key")


def sent_key(headers: Mapping[str, str]) -> str:
    """The key that a request brings, as Anthropic's clients or as OpenAI's send it."""
    if key := headers.get("x-api-key"):
        return key
    scheme, _, rest = headers.get("authorization", "").strip().partition(" ")
    return rest.strip() if rest and scheme.lower() in _SCHEMES else scheme


def is_local(name: str) -> bool:
    """Whether a host name always leads to this machine."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name in LOCAL_NAMES or name.endswith(".localhost")


def _name(url: str) -> str | None:
    """The host name in lower case, empty if there is none; None if the URL is malformed."""
    try:
        parts = urlsplit(url)
        # Read for its error: a port that is no number.
        _ = parts.port
        return parts.hostname or ""
    except ValueError:
        return None


def _forbidden(sender: str) -> Forbidden:
    return Forbidden(f"requests from {sender[:100]!r} are not accepted")
