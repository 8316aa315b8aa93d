"""What is known of another server before it is asked: address, API, model, key, limits."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

DialectName = Literal["", "anthropic", "openai"]
"""Empty: found by asking the server."""
DIALECT_NAMES: tuple[DialectName, ...] = ("anthropic", "openai")
_VERSION = re.compile(r"v\d+(beta|alpha)?\d*")


@dataclass(frozen=True, slots=True)
class Preset:
    """A server that many people run, or that a company runs for them."""

    url: str
    dialect: DialectName = ""
    key_env: str = ""
    model: str = ""
    hosted: bool = False
    """Whether a company runs it, which refuses fields and names that its API doesn't know.

    Other servers get the name of the first model that they list for a name that they don't.
    """


PRESETS: Mapping[str, Preset] = {
    "lmstudio": Preset("http://127.0.0.1:1234"),
    "ollama": Preset("http://127.0.0.1:11434"),
    "mlx_lm": Preset("http://127.0.0.1:8080", "openai", model="default_model"),
    "openai": Preset("https://api.openai.com", "openai", "OPENAI_API_KEY", hosted=True),
    "anthropic": Preset("https://api.anthropic.com", "anthropic", "ANTHROPIC_API_KEY", hosted=True),
}


class BadUpstream(ValueError):
    """The description of an upstream can't be used; the text names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """One upstream. Every instance is checked.

    Raises:
        BadUpstream: A value makes no sense.
    """

    name: str
    """The user's name of it, in messages and telemetry."""
    url: str
    """Where its API begins, with or without `/v1`."""
    dialect: DialectName = ""
    model: str = ""
    """What it is asked for; empty for the client's own name of the model."""
    context_tokens: int = 0
    """Window of that model, if the server doesn't tell it."""
    key_env: str = ""
    """The environment's variable that holds the key; empty for none."""
    hosted: bool = False
    """Whether a company runs it, which refuses fields and names that its API doesn't know.

    Other servers get the name of the first model that they list for a name that they don't.
    """
    canonical: bool = False
    """Whether rules of the canonical form are applied to what is sent."""
    shares_answers: bool = False
    """Whether clients with different API keys of ours get one another's answers."""
    rules_off: tuple[str, ...] = ()
    """Rules of the canonical form that don't count."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 600.0
    """Silence on the connection, also before the first byte, after which the answer has failed."""
    progress_timeout_s: float = 1800.0
    """The same for a server that sends nothing but signs of life."""
    ping_s: float = 5.0
    """Silence after which our client gets a ping."""
    max_event_bytes: int = 16 * 1024**2
    max_answer_bytes: int = 128 * 1024**2
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def __post_init__(self) -> None:
        if self.dialect not in ("", *DIALECT_NAMES):
            raise BadUpstream(f"dialect: expected {' or '.join(DIALECT_NAMES)}")
        parts = urlsplit(self.url)
        try:
            is_whole = parts.scheme in ("http", "https") and bool(parts.hostname)
            is_whole = is_whole and (parts.port is None or parts.port > 0)
        except ValueError:
            is_whole = False
        if not is_whole:
            raise BadUpstream("url: expected http:// or https://, a host and perhaps a path")
        if not self.url.isprintable() or " " in self.url:
            raise BadUpstream("url: must not hold blanks or control characters")
        if parts.username is not None or parts.password is not None:
            raise BadUpstream("url: must not hold a key or a password; name a variable by key_env")
        if parts.query or parts.fragment:
            raise BadUpstream("url: must not hold a query or a fragment")

    @property
    def base(self) -> str:
        """The URL that endpoints are below, as `http://host/v1`."""
        url = self.url.rstrip("/")
        path = urlsplit(url).path.split("/")
        return url if any(_VERSION.fullmatch(part) for part in path) else f"{url}/v1"

    @property
    def host(self) -> str:
        """Host and port, as messages name it."""
        return urlsplit(self.url).netloc

    @property
    def is_loopback(self) -> bool:
        """Whether it runs on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def is_strict(self) -> bool:
        """Whether it verifies what a conversation holds, as Anthropic and gateways to it do."""
        return self.hosted or self.url.startswith("https://")

    @property
    def key(self) -> str:
        """The key, read anew each time; empty if there is none."""
        return self.environ.get(self.key_env, "").strip() if self.key_env else ""


def named_upstream(
    chosen: str,
    *,
    name: str = "",
    url: str = "",
    dialect: str = "",
    model: str = "",
    key_env: str = "",
    **more: object,
) -> UpstreamConfig:
    """An upstream by a preset's name or a URL; what is given beside it replaces the preset's.

    Raises:
        BadUpstream: It is neither.
    """
    preset = PRESETS.get(chosen)
    if preset is None and "://" not in chosen:
        raise BadUpstream(f"expected {', '.join(PRESETS)} or a URL, got {chosen[:80]!r}")
    found = preset or Preset(chosen)
    return UpstreamConfig(
        name=name or (chosen if preset else urlsplit(chosen).hostname or "upstream"),
        url=url or found.url,
        dialect=dialect or found.dialect,  # type: ignore[arg-type]
        model=model or found.model,
        key_env=key_env or found.key_env,
        hosted=found.hosted,
        **more,  # type: ignore[arg-type]
    )
