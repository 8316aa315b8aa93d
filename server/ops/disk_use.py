"""What mlxdeck has on this machine's disk: models, caches, recordings, the log; and its removal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlxdeck.server.backends.local.engine.models.catalogue import (
    list_models,
    remove_model,
    size_bytes,
)
from mlxdeck.server.backends.local.engine.models.loader import ResolvedModel
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import EngineFailed, one_line
from mlxdeck.server.ops.background import log_path, state
from mlxdeck.settings.errors import UserError


@dataclass(frozen=True, slots=True)
class Item:
    """One thing on disk."""

    name: str
    """By which it is removed."""
    what: str
    path: Path
    n_bytes: int
    remove: Callable[[], object]


def on_disk(settings: Settings, recordings: Sequence[Path]) -> list[Item]:
    """Everything that is there and may be removed; models first.

    `recordings` are the telemetry files of our own naming.
    """
    models = [
        Item(
            each.name,
            f"model, {each.source}",
            each.path,
            size_bytes(each.path),
            partial(_remove_model, each),
        )
        for each in list_models(settings.models_folder)
        if each.path.is_dir()
    ]
    others: tuple[tuple[str, str, Path, Sequence[Path]], ...] = (
        ("cache", "answers and KV states", settings.cache_folder, [settings.cache_folder]),
        ("telemetry", "recordings", settings.telemetry_folder, recordings),
        ("log", "of servers in the background", log_path(settings.home), [log_path(settings.home)]),
    )
    return models + [
        Item(name, what, path, sum(map(size_bytes, there)), partial(_remove, settings, there))
        for name, what, path, files in others
        if (there := [each for each in files if each.exists()])
    ]


def find(items: Sequence[Item], name: str) -> Item:
    """The item of that name.

    Raises:
        UserError: There is none.
    """
    for item in items:
        if item.name == name:
            return item
    names = ", ".join(item.name for item in items) or "nothing"
    raise UserError(f"{name} is not on this machine; there is: {names}")


def _remove_model(model: ResolvedModel) -> None:
    try:
        remove_model(model)
    except EngineFailed as error:
        raise UserError(error.message) from error


def _remove(settings: Settings, paths: Sequence[Path]) -> None:
    if state(settings.url) is not None:
        raise UserError(f"a server runs on {settings.url}: stop it first")
    for path in paths:
        try:
            if path.is_symlink():
                raise UserError(f"{path} is a link: remove it yourself")
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path} can't be removed: {one_line(error)}") from error
