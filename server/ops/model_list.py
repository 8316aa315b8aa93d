"""The models of this machine as a table: size, window, tool format, whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.hardware.device import Device, device
from mlxdeck.server.backends.local.engine.models.catalogue import list_models, size_bytes
from mlxdeck.server.backends.local.engine.models.loader import BUILTIN, ResolvedModel, resolve
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import EngineFailed
from mlxdeck.server.ops.fits import Fit, local_fit, remote_fit
from mlxdeck.settings.errors import UserError

TITLES = ("model", "from", "size", "window", "tool calls")


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
    """The same for a person: a line of columns each, and below it whether it fits."""
    rows = [TITLES, *map(_cells, models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    title, *lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    verdicts = [f"  {each.get('error') or each['verdict']}" for each in models]
    return [title, *chain.from_iterable(zip(lines, verdicts, strict=True))]


def _cells(model: dict[str, Any]) -> tuple[str, ...]:
    n_bytes = model.get("bytes")
    size = f"{n_bytes / 1e9:,.2f} GB" if n_bytes is not None else ""
    if "error" in model:
        return model["model"], model["from"], size, "", ""
    return model["model"], model["from"], size, f"{model['context_tokens']:,}", model["tool_format"]


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
        is_path = name.startswith((".", "/", "~")) or Path(name).exists()
        if name.count("/") == 1 and not is_path:
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
