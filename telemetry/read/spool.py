"""Copies of what can't be read at any place: pipes, compressed files, what another program wrote.

They lie in a private folder of this process, and go when it ends. The folder of a process that was
killed goes when the next one makes its own.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

_PREFIX = "mlxdeck-spool-"
_numbers = itertools.count()
LEAST_FREE_BYTES = 512 << 20
"""So much of the disk is left to others."""


def new_folder() -> Path:
    """An empty folder in it."""
    folder = _own() / str(next(_numbers))
    folder.mkdir(mode=0o700)
    return folder


def copy_of(path: Path, name: str) -> Path:
    """Where a copy of a file may be made; copies from one folder lie in one folder."""
    beside = hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:16]
    folder = _own() / beside
    folder.mkdir(mode=0o700, exist_ok=True)
    return new_folder() / name if (folder / name).exists() else folder / name


def holds(path: Path) -> bool:
    """Whether a file is a copy in it."""
    return bool(_own.cache_info().currsize) and path.is_relative_to(_own())


def has_room(folder: Path) -> bool:
    """Whether its disk has room for more."""
    return shutil.disk_usage(folder).free > LEAST_FREE_BYTES


def remove() -> None:
    """Remove all copies. Whoever still has one open can read on."""
    if _own.cache_info().currsize:
        shutil.rmtree(_own(), ignore_errors=True)
        _own.cache_clear()


@cache
def _own() -> Path:
    _sweep(Path(tempfile.gettempdir()))
    atexit.register(remove)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def _sweep(parent: Path) -> None:
    """Remove the folders of this user's processes that are no more."""
    for folder in parent.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        try:
            about = folder.lstat()
            if about.st_uid == os.getuid() and pid.isdigit():
                os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Gone by now, or a process of somebody else.
            continue
