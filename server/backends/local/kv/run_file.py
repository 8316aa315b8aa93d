"""A file of KV states: the bytes of a run of parts, one behind another, each with its checksum.

It is read in parts: only those that RAM lacks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from mlxdeck.server.backends.local.engine.api import PackedPart
from mlxdeck.server.backends.local.kv.blocks import FileRange
from mlxdeck.server.cache.own_files import open_own


def write(path: Path, name: str, packed: Sequence[PackedPart]) -> list[FileRange]:
    """Write a file, 0600, under a temporary name; rename the complete one to `name`.

    Raises:
        OSError: It can't be written; nothing is left of it.
    """
    draft = path / f".{name.removesuffix('.kv')}-{os.getpid()}.kv"
    draft.unlink(missing_ok=True)
    try:
        places = []
        with os.fdopen(open_own(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "wb") as file:
            for part in packed:
                digest, offset = hashlib.sha256(), file.tell()
                for buffer in part.buffers:
                    digest.update(buffer)
                    file.write(buffer)
                n_bytes = file.tell() - offset
                places.append(FileRange(name, offset, n_bytes, digest.digest(), part.about))
        draft.rename(path / name)
        return places
    finally:
        draft.unlink(missing_ok=True)


def read(folder: Path, places: Sequence[FileRange]) -> list[bytes]:
    """The bytes of some parts, checked; of fewer, up to one that is damaged."""
    found: list[bytes] = []
    for place in places:
        try:
            opened = open_own(folder / place.file, os.O_RDONLY)
            try:
                # What is said of it may be anything.
                if place.offset + place.n_bytes > os.fstat(opened).st_size:
                    return found
                data = os.pread(opened, place.n_bytes, place.offset)
            finally:
                os.close(opened)
        except (OSError, ValueError):
            return found
        if hashlib.sha256(data).digest() != place.digest:
            return found
        found.append(data)
    return found
