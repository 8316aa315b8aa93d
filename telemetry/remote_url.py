"""Addresses that telemetry may be sent to: this machine, or anywhere over TLS."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def remote_url(text: str) -> str:
    """The same URL, without a slash at its end.

    Raises:
        ValueError: It is no URL, or is neither on this machine nor https.
    """
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:
        is_whole = False
    if not is_whole or " " in text or parts.scheme not in ("http", "https"):
        raise ValueError("expected a URL that begins with http:// or https://")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("to another machine only https:// is allowed")
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
