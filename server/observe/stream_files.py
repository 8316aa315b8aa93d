"""The telemetry files of this server's folder, for dashboards elsewhere: names, sizes and bytes.

A name has to be one that a server gives, so no path leads out of the folder. Reads block.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdeck.telemetry.schema.file_names import FILE_NAME, stream_files

MAX_READ_BYTES = 4 << 20
"""So much is read at once, however much is asked for."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A piece of a file, and how long all of it is."""

    start: int
    raw: bytes
    file_bytes: int


def listed(folder: Path) -> list[dict[str, Any]]:
    """Every file with its size; the one that was written last comes last."""
    try:
        paths = stream_files(folder)
    except OSError:
        # Nothing was recorded yet.
        return []
    found = []
    for path in paths:
        try:
            about = path.lstat()
        except OSError:
            # Removed since, to make room.
            continue
        found.append({"name": path.name, "bytes": about.st_size, "modified_ts": about.st_mtime})
    return found


def file_part(folder: Path, name: str, start: int, n_bytes: int) -> ByteRange | None:
    """Up to `n_bytes` of a file, and at most `MAX_READ_BYTES`; None if there is no such file.

    A negative `start` counts from the end. Behind the end there is nothing.
    """
    if not FILE_NAME.fullmatch(name):
        return None
    try:
        # A link's target may belong to somebody else, and a pipe would never end.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(folder / name, flags)
    except OSError:
        return None
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return None
        begin = start if start >= 0 else max(0, about.st_size + start)
        n_bytes = max(0, min(n_bytes, about.st_size - begin, MAX_READ_BYTES))
        return ByteRange(begin, os.pread(fd, n_bytes, begin), about.st_size)
    finally:
        os.close(fd)
