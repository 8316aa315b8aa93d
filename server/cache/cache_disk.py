"""The part of the disk that caches may take, shared by answers and states."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.sqlite_index import SqliteIndex

MAX_DISK_BYTES = 20 * 1024**3
FREE_DISK_SHARE = 0.25
ANSWERS_SHARE = 0.1
"""Of the disk that caches may take; states take the rest."""


@dataclass(frozen=True, slots=True)
class CacheDisk:
    """An open index, and how much room there is beside it."""

    disk: DiskIO
    folder: Path
    answers_bytes: int
    states_bytes: int

    def report(self) -> dict[str, Any]:
        """How the disk does, for each tier that lies on it."""
        return {"working": self.disk.working, "errors": self.disk.errors}


def open_cache_disk(folder: Path, max_bytes: int = 0) -> CacheDisk:
    """Open the index in a folder; without `max_bytes`, its limit is a share of the free disk.

    Any thread; reads the index, which may take seconds.

    Raises:
        OSError, sqlite3.Error: It doesn't work.
    """
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(folder.parent).free
    room = max_bytes or min(MAX_DISK_BYTES, int(free * FREE_DISK_SHARE))
    answers = int(room * ANSWERS_SHARE)
    return CacheDisk(DiskIO(SqliteIndex(folder)), folder, answers, room - answers)
