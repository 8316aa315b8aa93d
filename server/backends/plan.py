"""The backends that settings describe or only name, and which of them answers what. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlxdeck.server.backend_names import LOCAL, PRESETS, SMALL, UPSTREAM
from mlxdeck.server.backends.routing import SEPARATOR, RoutingTable, Target
from mlxdeck.server.config.backends import DEFAULT, BackendTable
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.errors import Misplaced, SettingsError, nearest


@dataclass(frozen=True, slots=True)
class BackendPlan:
    """What a server needs."""

    tables: Mapping[str, BackendTable]
    """The backends by name, the default one among them."""
    routing: RoutingTable
    small_model: str = ""
    """Name of the backend that is the second model of this machine; empty if there is none."""


def is_one_backend(settings: Settings) -> bool:
    """Whether there is nothing to choose from."""
    named = (settings.backend, settings.small_backend, settings.small_model, settings.fallback)
    return not (settings.backends or settings.aliases or any(named))


def backend_plan(settings: Settings) -> BackendPlan:
    """The backends that are declared, and those that need no more than their name.

    Raises:
        SettingsError: A name leads nowhere, or two things claim one.
    """
    planner = _Planner(settings)
    default = planner.default()
    small = planner.small()
    fallback = planner.optional("fallback", settings.fallback)
    aliases = planner.aliases()
    small_models = [each.strip() for each in settings.small_models.split(",") if each.strip()]
    tables = planner.tables
    routing = RoutingTable(
        tables, default, aliases, small=small, small_models=small_models, fallback=fallback
    )
    return BackendPlan(tables, routing, SMALL if settings.small_model else "")


class _Planner:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.tables = {
            name: table
            for name, table in settings.backends.items()
            if isinstance(table, BackendTable)
        }
        locals_ = [name for name, table in self.tables.items() if table.kind == LOCAL]
        if len(locals_) > 1:
            raise SettingsError(f"backends.{locals_[1]}: {locals_[0]} is the local model already")
        self._local = locals_[0] if locals_ else LOCAL
        self._upstream = ""
        if settings.upstream:
            table = _upstream_table(settings)
            is_preset = table.kind in PRESETS
            self._upstream = table.kind if is_preset else urlsplit(table.url).hostname or UPSTREAM
            self.tables.setdefault(self._upstream, table)
        elif settings.upstream_url:
            raise SettingsError("upstream_url: upstream has to name the kind of server, or the URL")

    def default(self) -> Target:
        settings = self._settings
        told = settings.backends.get(DEFAULT, "")
        if settings.backend or not isinstance(told, str) or not told:
            usual = self._upstream or self._local
            return self._target("backend", settings.backend or usual)
        return self._target(f"backends.{DEFAULT}", told)

    def optional(self, where: str, told: str) -> Target | None:
        return self._target(where, told) if told else None

    def small(self) -> Target | None:
        """Who answers small requests, if that is another one."""
        settings = self._settings
        if not settings.small_model:
            return self.optional("small_backend", settings.small_backend)
        if settings.small_backend:
            raise SettingsError("small_backend: small_model answers small requests already")
        if SMALL in self.tables:
            raise SettingsError(f"backends.{SMALL}: this is the name of small_model")
        self.tables[SMALL] = BackendTable(kind=LOCAL)
        return Target(SMALL)

    def aliases(self) -> dict[str, Target]:
        told = self._settings.aliases.items()
        found = {name: self._target(f"aliases.{name}", to) for name, to in told}
        small, usual = self._settings.small_model, self._settings.model
        if small not in ("", usual) and not _is_path(small):
            found.setdefault(small, Target(SMALL))
        for backend, table in self.tables.items():
            for name in table.aliases:
                if name in found and found[name].backend != backend:
                    other = found[name].backend
                    raise SettingsError(
                        f"backends.{backend}.aliases: {name!r} leads to {other} already"
                    )
                found.setdefault(name, Target(backend))
        for name, target in found.items():
            self._check_reachable(name, target)
        return found

    def _check_reachable(self, name: str, target: Target) -> None:
        """Refuse an alias that no request could reach, as a backend's own name comes first."""
        backend = name.partition(SEPARATOR)[0]
        if backend in self.tables and target.backend != backend:
            raise SettingsError(f"aliases.{name}: {backend} is the name of a backend")

    def _target(self, where: str, told: str) -> Target:
        name, _, model = told.partition(SEPARATOR)
        if name not in self.tables:
            if name == LOCAL:
                name = self._local
            if name in (LOCAL, *PRESETS):
                self.tables.setdefault(name, BackendTable(kind=name))
        if name not in self.tables:
            known = dict.fromkeys([*self.tables, LOCAL, *PRESETS])
            raise SettingsError(f"{where}: there is no backend {nearest(name, known)}")
        return Target(name, model)


def _is_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.endswith(".gguf")


def _upstream_table(settings: Settings) -> BackendTable:
    """What `--upstream` and its companions say, as a table."""
    is_preset = settings.upstream in PRESETS
    if not is_preset and "://" not in settings.upstream:
        raise SettingsError(
            f"upstream: expected {', '.join(PRESETS)} or a URL, got {settings.upstream[:80]!r}"
        )
    try:
        return BackendTable(
            kind=settings.upstream if is_preset else UPSTREAM,
            url=settings.upstream_url or ("" if is_preset else settings.upstream),
            dialect=settings.upstream_dialect,
            model=settings.upstream_model,
            key_env=settings.upstream_key_env,
            timeout_s=settings.upstream_timeout_s,
            canonical=settings.upstream_canonical,
            shares_answers=settings.upstream_shares_answers,
        )
    except Misplaced as error:
        raise SettingsError(f"upstream: {error}") from error
