"""The other servers that settings name, as they are now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mlxdeck.server.backend_names import KINDS, LOCAL
from mlxdeck.server.backends.making import make_upstream
from mlxdeck.server.backends.plan import backend_plan
from mlxdeck.server.config.settings import Settings


@dataclass(frozen=True, slots=True)
class LookedAt:
    """One of them."""

    name: str
    told: str
    """Where it is, and what it has."""
    trouble: str
    """Why it can't answer; empty if it can."""


def has_local(settings: Settings) -> bool:
    """Whether a model on this machine is among the backends."""
    return any(table.kind == LOCAL for table in backend_plan(settings).tables.values())


def looked_at(settings: Settings) -> list[LookedAt]:
    """Each of them; this asks all of them.

    Raises:
        SettingsError: The description of one can't be used.
    """
    tables = backend_plan(settings).tables.items()
    names = [name for name, table in tables if table.kind in KINDS and table.kind != LOCAL]
    return asyncio.run(_looked_at(settings, names)) if names else []


async def _looked_at(settings: Settings, names: list[str]) -> list[LookedAt]:
    return list(await asyncio.gather(*(_one(settings, name) for name in names)))


async def _one(settings: Settings, name: str) -> LookedAt:
    backend = make_upstream(name, backend_plan(settings).tables[name], settings)
    config = backend.config
    await backend.start(lambda _: None, None)
    try:
        trouble, models = backend.status.health.reason, backend.models()
    finally:
        await backend.stop()
        await backend.close()
    if config.key_env and not config.key:
        trouble = f"{config.key_env} is not set"
    told = f"{name} at {config.host}"
    return LookedAt(name, told if trouble else f"{told}: {len(models)} models", trouble)
