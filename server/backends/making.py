"""Makes the backends that settings describe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from mlxdeck.server.backend_names import KINDS, LOCAL, PRESETS
from mlxdeck.server.backends.base import Backend
from mlxdeck.server.backends.member import Member
from mlxdeck.server.backends.plan import BackendPlan, backend_plan, is_one_backend
from mlxdeck.server.backends.plugged import make_plugged
from mlxdeck.server.backends.routed import RoutedBackend
from mlxdeck.server.config.backends import BackendTable
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.plug_ins import PlugInFault
from mlxdeck.server.request_facts import FallbackReason
from mlxdeck.settings.errors import SettingsError

if TYPE_CHECKING:
    from mlxdeck.server.backends.upstream.backend import UpstreamBackend

MakeLocal = Callable[[bool], Backend]
"""Makes the model of this machine, or the small one beside it. Loads nothing yet."""


def make_backend(settings: Settings, make_local: MakeLocal) -> Backend:
    """What answers requests: one backend, or several behind one.

    Raises:
        SettingsError: Settings contradict each other, or a plug-in can't be used.
    """
    plan = backend_plan(settings)
    if is_one_backend(settings):
        ((name, table),) = plan.tables.items()
        return _made(name, table, settings, make_local)
    members = [
        Member(name, make_local(True), is_awaited=True)
        if name == plan.small_model
        else Member(name, _made(name, table, settings, make_local), _share(name, table))
        for name, table in plan.tables.items()
    ]
    words = frozenset(settings.fallback_on.split(","))
    return RoutedBackend(
        members,
        plan.routing,
        gives_way_on=cast("frozenset[FallbackReason]", words),
        fallback_wait_s=settings.fallback_wait_s,
        warmed=_warmed(plan),
    )


def _warmed(plan: BackendPlan) -> str:
    """The one whose prompts can be prefilled, if there is one."""
    local = [name for name, table in plan.tables.items() if table.kind == LOCAL]
    return local[0] if local else plan.routing.default.backend


def _share(name: str, table: BackendTable) -> str:
    """Nothing for backends of our own, which sign by all that they are."""
    return "" if table.kind in KINDS else f"{name} {table.kind} {table.options} "


def _made(name: str, table: BackendTable, settings: Settings, make_local: MakeLocal) -> Backend:
    if table.kind == LOCAL:
        return make_local(False)
    if table.kind not in KINDS:
        try:
            return make_plugged(table.kind, name, table.options)
        except PlugInFault as fault:
            raise SettingsError(f"backends.{name}: {fault}") from fault
    return make_upstream(name, table, settings)


def make_upstream(name: str, table: BackendTable, settings: Settings) -> UpstreamBackend:
    """Another server; nothing is asked yet.

    Raises:
        SettingsError: It can't be used as it is described.
    """
    # Only who asks another server waits for this import.
    from mlxdeck.server.backends.upstream.backend import UpstreamBackend
    from mlxdeck.server.backends.upstream.config import BadUpstream, named_upstream

    try:
        config = named_upstream(
            table.kind if table.kind in PRESETS else table.url,
            name=name,
            url=table.url,
            dialect="" if table.dialect == "auto" else table.dialect,
            model=table.model,
            key_env=table.key_env,
            context_tokens=table.context_tokens,
            canonical=table.canonical,
            shares_answers=table.shares_answers,
            rules_off=tuple(filter(None, settings.canonical_off.split(","))),
            connect_timeout_s=table.connect_timeout_s,
            read_timeout_s=table.timeout_s,
            ping_s=settings.ping_s,
        )
    except BadUpstream as error:
        where = f"backends.{name}." if name in settings.backends else "upstream: "
        raise SettingsError(f"{where}{error}") from error
    return UpstreamBackend(config)
