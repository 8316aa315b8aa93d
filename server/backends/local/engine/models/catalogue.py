"""The models that are on this machine: which, how large, and how one is removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlxdeck.server.backends.local.engine.models.hub import WEIGHTS
from mlxdeck.server.backends.local.engine.models.loader import (
    BUILTIN,
    BUILTIN_FOLDER,
    CONVERTED,
    ResolvedModel,
)
from mlxdeck.server.errors import EngineFailed, one_line


def list_models(cache_dir: Path) -> list[ResolvedModel]:
    """What can be served without fetching anything, and the built-in model in any case."""
    found = [ResolvedModel(BUILTIN, cache_dir / BUILTIN_FOLDER, "builtin")]
    if cache_dir.is_dir():
        found += [
            ResolvedModel(folder.name, folder, "gguf")
            for folder in sorted(cache_dir.glob(f"{CONVERTED}*"))
            if (folder / "config.json").is_file()
        ]
    by_name = {}
    for config in sorted(hub_folder().glob("models--*/snapshots/*/config.json")):
        if any(config.parent.glob(WEIGHTS)):
            name = config.parents[2].name.removeprefix("models--").replace("--", "/")
            by_name[name] = ResolvedModel(name, config.parent, "hub")
    return [*found, *by_name.values()]


def hub_folder() -> Path:
    """Folder of huggingface_hub's downloads, found without importing it."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("HF_HOME", cache / "huggingface")) / "hub"


def size_bytes(path: Path) -> int:
    """What a folder or file takes on disk; files behind links count, each once."""
    found: dict[tuple[int, int], int] = {}
    for each in [path] if path.is_file() else path.rglob("*"):
        try:
            stat = each.stat()
        except OSError:
            continue
        if each.is_file():
            found[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(found.values())


def remove_model(model: ResolvedModel) -> int:
    """Remove a model that mlxdeck or the Hub's client has put here; return its bytes.

    Raises:
        EngineFailed: It is in use, is a folder of the user, or can't be removed.
    """
    if model.source == "folder":
        raise EngineFailed(f"{model.path} is a folder of your own: remove it yourself")
    # All versions of a model of the Hub lie below one folder.
    whole = model.path.parents[1] if model.source == "hub" else model.path
    n_bytes = size_bytes(whole)
    try:
        with _unused(model.path):
            # Under another name first: half a model must not be found.
            gone = Path(tempfile.mkdtemp(prefix=f".{whole.name}.tmp", dir=whole.parent))
            whole.rename(gone / whole.name)
            shutil.rmtree(gone)
    except BlockingIOError:
        raise EngineFailed(f"{model.name} is in use: stop its server first") from None
    except OSError as error:
        raise EngineFailed(f"{model.name} can't be removed: {one_line(error)}") from error
    return n_bytes


@contextmanager
def _unused(folder: Path) -> Iterator[None]:
    """Raises `BlockingIOError` while a server serves this model, see `loader.hold`."""
    with (folder / "config.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
