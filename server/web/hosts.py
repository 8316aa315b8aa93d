"""Accepted names of this machine, and accepted web pages.

Any web page can send requests to a server on this machine, through the browser of its user.
`Origin` names the page, unless the page's own name now resolves to this machine: then `Host` has
that name. So only names are accepted that nobody else can own, and the names that the user lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from mlxdeck.server.config.settings import is_loopback

CONTAINER_NAMES = frozenset(
    {
        *("host.docker.internal", "gateway.docker.internal", "host.containers.internal"),
        *("host.lima.internal", "host.orb.internal"),
    }
)
"""This machine's name in its containers.

ICANN keeps `.internal` out of the public DNS, so no page can be served from such a name. As an
origin it is refused anyway.
"""

_NAME = re.compile(r"[A-Za-z0-9_.-]+\.?|\[[0-9A-Fa-f:.]+\]")


def hostname(authority: str) -> str | None:
    """The name in `NAME` or `NAME:PORT`, in lower case; None if it is malformed."""
    name, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        name, port = authority, ""
    if not _NAME.fullmatch(name) or (port and not (port.isascii() and port.isdigit())):
        return None
    if port and (len(port) > 5 or int(port) > 65535):
        return None
    return name.lower().removesuffix(".").strip("[]")


def origin_name(origin: str) -> str | None:
    """The name in an `Origin`; None if it is malformed, empty for one that has no name."""
    if origin == "null":
        return ""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    extra = parts.path or parts.query or parts.fragment or parts.username is not None
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]+", origin) or extra:
        return None
    return hostname(parts.netloc)


def is_own(name: str) -> bool:
    """Whether a name means this machine wherever it is looked up."""
    # RFC 6761: names below localhost always mean this machine.
    return is_loopback(name) or name.endswith(".localhost")


def may_be_host(name: str, allowed: Collection[str]) -> bool:
    """Whether the server may be called by this name."""
    return is_own(name) or name in CONTAINER_NAMES or name in allowed


def may_be_origin(name: str, allowed: Collection[str]) -> bool:
    """Whether pages of this name may ask."""
    return is_own(name) or name in allowed
