"""The backends of a server, as `[backends.NAME]` in the settings file describes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlxdeck.server.backend_names import KINDS, LOCAL, UPSTREAM, plug_ins
from mlxdeck.settings.declaration import declared, setting
from mlxdeck.settings.errors import Misplaced
from mlxdeck.settings.setting_types import (
    Kind,
    address,
    choice,
    names,
    number,
    switch,
    text,
    variable_name,
    whole,
)
from mlxdeck.settings.tables import NamedValues, mapping, tables

DEFAULT = "default"
"""Beside the tables: the name of the backend that answers what no other one does."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}")
_SECRET = re.compile(r"keys?$|token$|secret|passw|^auth|bearer|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendTable:
    """One backend. Every instance is checked."""

    kind: str = setting("", text())
    """What it is: local, upstream, one of the presets, or the name of a plug-in."""
    url: str = setting("", address("http://", "https://"))
    """Where an upstream's API begins; a preset has its own."""
    dialect: str = setting("auto", choice("auto", "anthropic", "openai"))
    """API of an upstream; auto asks it."""
    model: str = setting("", text())
    """Model that an upstream is asked for; empty passes on the client's name of the model."""
    key_env: str = setting("", variable_name())
    """Environment variable with an upstream's API key; a preset has its own."""
    aliases: tuple[str, ...] = setting((), names())
    """Names of models, perhaps with stars, that this backend answers to."""
    context_tokens: int = setting(0, whole(0))
    """Context window of an upstream that doesn't tell it; 0 asks the upstream."""
    connect_timeout_s: float = setting(10.0, number(0.001))
    """Seconds that a connection to an upstream may take."""
    timeout_s: float = setting(600.0, number(1))
    """Seconds without a byte from an upstream after which a request fails."""
    canonical: bool = setting(False, switch())
    """Whether accounting is taken out of what is sent to an upstream."""
    shares_answers: bool = setting(False, switch())
    """Whether clients with different API keys get the same cached answers of an upstream."""
    options: NamedValues[object] = setting(NamedValues(), mapping(Kind("", lambda raw: raw)))
    """What a plug-in is to be told, by its own names."""

    def __post_init__(self) -> None:
        plugged = plug_ins() if self.kind not in ("", *KINDS) else {}
        if not self.kind and not self.url:
            raise Misplaced("kind", f"is needed: one of {', '.join(KINDS)}, or a plug-in")
        if self.kind not in ("", *KINDS, *plugged):
            known = ", ".join([*KINDS, *plugged])
            raise Misplaced("kind", f"expected one of {known}, got {self.kind[:80]!r}")
        kind = self.kind or UPSTREAM
        object.__setattr__(self, "kind", kind)
        if kind == UPSTREAM and not self.url:
            raise Misplaced("url", "is needed, as this upstream is no preset")
        if "@" in _place(self.url):
            raise Misplaced("url", "must hold no key or password. Name its variable by key_env")
        for name in self.options:
            if _SECRET.search(name):
                raise Misplaced("options", _elsewhere(name))
        self._check_meant(kind)

    def _check_meant(self, kind: str) -> None:
        """Refuse what another kind of backend has."""
        if kind == LOCAL and self.model:
            raise Misplaced("model", "the local model is set by --model, or at the file's top")
        meant = {"kind", "aliases"} if kind == LOCAL else {"kind", "aliases", "options"}
        if kind in KINDS and kind != LOCAL:
            meant = declared(BackendTable).keys() - {"options"}
        for name, each in declared(BackendTable).items():
            if name not in meant and getattr(self, name) != each.default:
                raise Misplaced(name, f"a backend of the kind {kind} has none")

    @classmethod
    def refused(cls, name: str) -> str:
        """Why a setting is refused that no backend has; empty if it is only misspelt."""
        return _elsewhere(name) if _SECRET.search(name) else ""


def _place(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError as error:
        raise Misplaced("url", f"is none: {error}") from None


def _elsewhere(name: str) -> str:
    return f"{name!r} is refused: a file is no place for a key. Name its variable by key_env"


def backends() -> Kind:
    """All `[backends.NAME]`, and the name of the one that answers by default."""
    return tables(BackendTable, _check_name, {DEFAULT: text()})


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError("expected a name of letters, digits, points and dashes")
