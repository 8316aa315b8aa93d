"""Which files hold a model's weights, and whether they are whole: by names and headers alone."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from pathlib import Path

from mlxdeck.server.errors import EngineFailed

AGAIN = "copy or download it again"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model*.safetensors"
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")
_MAX_HEADER_BYTES = 1 << 28


def weight_files(folder: Path, notes: list[str]) -> list[Path]:
    """The files to load: those that the index names, else all that are called like weights.

    Raises:
        EngineFailed: One is missing or cut off.
    """
    found = {path.name for path in folder.glob(WEIGHTS) if not path.is_dir()}
    there = {name for name in found if _is_readable(folder / name)}
    wanted = _indexed(folder, notes)
    lacking = sorted((wanted or _of_shards(found)) - there)
    if lacking and "model.safetensors" in there:
        # What quantising leaves behind: the index of the model that this one was made of.
        notes.append(f"{INDEX} names missing files: only model.safetensors is read")
        lacking, wanted = [], {"model.safetensors"}
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise EngineFailed(f"{folder / lacking[0]}{more} is missing; {AGAIN}")
    for name in sorted(found - there - wanted):
        notes.append(f"{name} can't be read: it is left out")
    chosen = sorted(wanted or there)
    if not chosen:
        raise EngineFailed(f"{folder} is no MLX model: it has no {WEIGHTS} that can be read")
    for name in chosen:
        check_whole(folder / name)
    return [folder / name for name in chosen]


def check_whole(path: Path) -> None:
    """Whether all is there that a safetensors file's header promises.

    Raises:
        EngineFailed: It is not.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if head == b"version ":
            raise EngineFailed(
                f"{path} is a Git LFS pointer, not the file: run `git lfs pull` there"
            )
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, n_bytes - 8):
            raise EngineFailed(f"{path} is no complete safetensors file; {AGAIN}")
        try:
            header = json.loads(file.read(length))
            ends = [
                int(tensor["data_offsets"][1])
                for name, tensor in header.items()
                if name != "__metadata__"
            ]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise EngineFailed(f"{path} has a damaged header; {AGAIN}") from None
    wanted = 8 + length + max(ends, default=0)
    if n_bytes < wanted:
        raise EngineFailed(f"{path} is cut off: {n_bytes:,} of {wanted:,} bytes; {AGAIN}")


def _indexed(folder: Path, notes: list[str]) -> set[str]:
    path = folder / INDEX
    if not path.exists() and not path.is_symlink():
        return set()
    try:
        if not _is_readable(path):
            raise ValueError("it can't be read")
        names = set(json.loads(path.read_bytes())["weight_map"].values())
        if not all(isinstance(name, str) and "/" not in name for name in names):
            raise ValueError("it names no files")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        notes.append(f"{INDEX} is broken: all files called {WEIGHTS} are read")
        return set()
    return names


def _of_shards(names: set[str]) -> set[str]:
    """All the names that numbered ones, as model-00001-of-00002, say there are."""
    wanted = set()
    for name in names:
        if (found := _SHARD.fullmatch(name)) and int(found[3]) <= 10_000:
            stem, digits, n_shards = found[1], len(found[2]), int(found[3])
            numbered = (f"{stem}-{n:0{digits}}-of-{found[3]}" for n in range(1, n_shards + 1))
            wanted |= {f"{each}.safetensors" for each in numbered}
    return wanted


def _is_readable(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode) and os.access(path, os.R_OK)
    except OSError:
        return False
