"""The models of this machine as a table: size, window, tool format, whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.hardware.device import Device, device
from mlxdeck.server.backends.local.engine.models.catalogue import list_models, size_bytes
from mlxdeck.server.backends.local.engine.models.loader import BUILTIN, ResolvedModel, resolve
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import EngineFailed
from mlxdeck.server.ops.fits import Fit, local_fit, remote_fit
from mlxdeck.settings.errors import UserError

TITLES = ("model", "from", "size", "window", "tool calls", "memory")


def described(settings: Settings) -> list[dict[str, Any]]:
    """Each model that is here, and the built-in one; a broken one has an `error`."""
    machine = device()
    return [_described(each, machine) for each in list_models(settings.models_folder)]


def _described(model: ResolvedModel, machine: Device) -> dict[str, Any]:
    told: dict[str, Any] = {"model": model.name, "from": model.source, "path": str(model.path)}
    if not model.path.is_dir():
        return {**told, "error": "not fetched yet (93 MB)" if model.name == BUILTIN else "gone"}
    told |= {"bytes": size_bytes(model.path)}
    try:
        fit = local_fit(model.name, model.path, machine)
    except EngineFailed as error:
        return {**told, "error": error.message}
    return {**told, **as_json(fit)}


def as_json(fit: Fit) -> dict[str, Any]:
    """The facts of a fit, for a program."""
    return {
        "model": fit.name,
        "context_tokens": fit.window.tokens,
        "tool_format": fit.tool_format,
        "weight_bytes": fit.weight_bytes,
        "limit_bytes": fit.limit_bytes,
        "kv_tokens": fit.kv_tokens if fit.kv_tokens >= 0 else None,
        "fits": fit.fits,
        "verdict": fit.verdict(),
    }


def table(models: Sequence[dict[str, Any]]) -> list[str]:
    """The same for a person, a line each."""
    rows = [TITLES, *map(_cells, models)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(TITLES) - 1)]
    return ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]


def _cells(model: dict[str, Any]) -> tuple[str, ...]:
    n_bytes = model.get("bytes")
    size = f"{n_bytes / 1e9:,.2f} GB" if n_bytes is not None else ""
    if error := model.get("error"):
        return model["model"], model["from"], size, "", "", error
    window = f"{model['context_tokens']:,}"
    return model["model"], model["from"], size, window, model["tool_format"], model["verdict"]


def fit_of(settings: Settings, name: str) -> Fit:
    """Whether a model fits, wherever it is; it is not fetched.

    Raises:
        UserError: It is not there, or no model.
    """
    machine = device()
    try:
        for each in list_models(settings.models_folder):
            if each.name == name and each.path.is_dir():
                return local_fit(name, each.path, machine)
        if name.count("/") == 1 and not Path(name).expanduser().exists():
            return remote_fit(name, machine)
        if name == BUILTIN or Path(name).suffix == ".gguf":
            raise UserError(f"{name} is converted first: mlxdeck pull {name}")
        found = resolve(name, settings.models_folder, lambda _: None)
        return local_fit(found.name, found.path, machine)
    except EngineFailed as error:
        raise UserError(error.message) from error


def pull(settings: Settings, name: str, say: Callable[[str], None]) -> ResolvedModel:
    """Fetch and convert a model; the Hub's client shows its progress, and continues a download.

    Raises:
        UserError: It can't be had.
    """
    try:
        return resolve(name, settings.models_folder, say)
    except EngineFailed as error:
        raise UserError(error.message) from error
