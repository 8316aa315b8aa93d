"""The loadable files of a model's folder, as a folder of links.

mlx-lm and transformers read every file that they find, so everything is checked first. A broken
file that is needed is an error with a remedy. A file that isn't needed and would do harm is left
out, with a note. Small files with repairs are written to the new folder; the model's own folder is
never changed.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.models.chat_templates import Templates, find_templates
from mlxdeck.server.backends.local.engine.models.context_window import ContextWindow, find_window
from mlxdeck.server.backends.local.engine.models.model_config import (
    mended,
    nearest_types,
    supported_types,
    with_ends,
    with_window,
)
from mlxdeck.server.backends.local.engine.models.weight_files import weight_files
from mlxdeck.server.errors import EngineFailed, one_line
from mlxdeck.server.lenient_json import loads

AGAIN = "copy or download it again"
# Files that a tokenizer may consist of. Other text files don't matter to the loader.
_TOKENIZER_SUFFIXES = {".model", ".tiktoken", ".txt", ".vocab"}
_TOKENIZER_JSON = {"tokenizer.json", "vocab.json", "tekken.json"}
_OPTIONAL = ("special_tokens_map.json", "added_tokens.json", "hf_quant_config.json")
_TOKENIZER_NAMES = ("tokenizer.", "vocab.", "merges.", "spiece.", "sentencepiece.", "tiktoken.")
MAX_JSON_BYTES = 1 << 28
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with the files to load, and the contents of its small files."""

    path: Path
    config: dict[str, Any]
    generation_config: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    templates: Templates
    window: ContextWindow
    notes: list[str] = field(default_factory=list)
    """The files that were left out or repaired, one line each."""


@contextmanager
def fit_to_load(source: Path) -> Iterator[ModelFolder]:
    """The folder of a model without harmful files, until the block ends.

    Raises:
        EngineFailed: A file that is needed is missing or broken.
    """
    with tempfile.TemporaryDirectory(prefix="mlxdeck-model-") as scratch:
        folder = examined(source, Path(scratch))
        _link(source, folder)
        yield folder


def examined(source: Path, target: Path) -> ModelFolder:
    """Contents of the small files; `target` is only noted. Reads only the headers of weights.

    Raises:
        EngineFailed: A file that is needed is missing or broken.
    """
    notes: list[str] = []
    raw = _object(source / "config.json")
    if raw is None:
        raise EngineFailed(f"{source} is no MLX model: it has no config.json")
    kind = raw.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise EngineFailed(f"{source / 'config.json'} names no model_type; {AGAIN}")
    if "model_file" not in raw and kind not in supported_types():
        raise EngineFailed(
            f"{source / 'config.json'}: the installed mlx-lm does not support the model type"
            f" {kind!r} ({nearest_types(kind)}); a newer one may: pip install -U mlx-lm"
        )
    generation = _optional(source / "generation_config.json", notes)
    tokenizer_config = _object(source / "tokenizer_config.json") or {}
    templates = find_templates(source, tokenizer_config, notes)
    tokenizer_config = templates.without_unknown_parts(tokenizer_config, notes)
    config = mended(raw, notes)
    window = find_window(config, tokenizer_config)
    if with_ends(generation, config.get("vocab_size")):
        notes.append("generation_config.json: eos_token_id was repaired")
    if not any(_is_tokenizer(file) for file in _regular(source)):
        raise EngineFailed(f"{source} has no tokenizer.json; copy it from the original model")
    tokenizer = _object(source / "tokenizer.json")
    if tokenizer is not None and not isinstance(tokenizer.get("model"), dict):
        raise EngineFailed(f"{source / 'tokenizer.json'} describes no tokenizer; {AGAIN}")
    config = with_window(config, window.tokens)
    return ModelFolder(target, config, generation, tokenizer_config, templates, window, notes)


def _link(source: Path, folder: ModelFolder) -> None:
    written: dict[str, Mapping[str, Any]] = {
        "config.json": folder.config,
        "generation_config.json": folder.generation_config,
        "tokenizer_config.json": folder.tokenizer_config,
    }
    for name, content in written.items():
        if content:
            (folder.path / name).write_text(json.dumps(content), encoding="utf-8")
    linked = [file for file in _regular(source) if _is_tokenizer(file)]
    linked += [source / name for name in _OPTIONAL if _optional(source / name, folder.notes)]
    linked += weight_files(source, folder.notes)
    for file in linked:
        (folder.path / file.name).symlink_to(file.absolute())


def _regular(folder: Path) -> list[Path]:
    """Files that can be read: no folders, sockets or pipes, and no links that lead nowhere."""
    return [folder / name for name in sorted(os.listdir(folder)) if is_regular(folder / name)]


def is_regular(path: Path) -> bool:
    """Whether there is a regular file, which can be read without waiting."""
    try:
        return stat.S_ISREG(path.stat().st_mode) and os.access(path, os.R_OK)
    except OSError:
        return False


def _is_tokenizer(file: Path) -> bool:
    if file.suffix == ".json":
        return file.name in _TOKENIZER_JSON
    return file.suffix in _TOKENIZER_SUFFIXES or file.name.startswith(_TOKENIZER_NAMES)


def _object(path: Path) -> dict[str, Any] | None:
    """The object in a file that is needed; None if there is no such file.

    Raises:
        EngineFailed: It is there, and can't be used.
    """
    if not path.exists() and not path.is_symlink():
        return None
    if not is_regular(path):
        raise EngineFailed(f"{path} can't be read: {_what_it_is(path)}; {AGAIN}")
    try:
        content = path.read_bytes()
        if content.startswith(_LFS_POINTER):
            raise EngineFailed(
                f"{path} is a Git LFS pointer, not the file: run `git lfs pull` there"
            )
        if path.stat().st_size > MAX_JSON_BYTES:
            raise EngineFailed(f"{path} is too long for a file of this name; {AGAIN}")
        read = loads(content)
    except ValueError as error:
        raise EngineFailed(f"{path} is broken JSON: {error}; {AGAIN}") from error
    except (OSError, RecursionError) as error:
        raise EngineFailed(f"{path} can't be read: {one_line(error)}; {AGAIN}") from error
    if not isinstance(read, dict):
        raise EngineFailed(f"{path} holds no JSON object; {AGAIN}")
    return read


def _optional(path: Path, notes: list[str]) -> dict[str, Any]:
    """The object in a file that can be done without; a note if it has to be."""
    try:
        return _object(path) or {}
    except EngineFailed as error:
        reason = error.message.removesuffix(f"; {AGAIN}").removeprefix(f"{path} ")
        notes.append(f"{path.name} {reason}: it is left out")
        return {}


def _what_it_is(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "it is a link that leads nowhere"
    if path.is_dir():
        return "it is a folder"
    return "it is no readable file"
