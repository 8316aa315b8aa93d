"""Files in folders of our own, never through a symbolic link.

A link in one of our folders may lead to precious files: it is refused, not followed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path


def own_folder(path: Path) -> None:
    """Make a folder, 0700, or take the one that is there.

    Raises:
        OSError: It can't be made, or is a symbolic link or something else.
    """
    if path.is_symlink():
        raise NotADirectoryError(f"{path} is a symbolic link, which is not followed")
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(folder, 0o700)
    finally:
        os.close(folder)


def open_own(path: Path, flags: int) -> int:
    """Open a regular file, 0600 if it is made; the descriptor is the caller's.

    Raises:
        OSError: It can't be opened, or is a symbolic link or something else.
    """
    # A pipe must not hold up who opens it.
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK
    opened = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(f"{path} is no regular file")
    return opened


def is_regular(path: Path) -> bool:
    """Whether it is a file itself, and not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def checksum(path: Path) -> tuple[bytes, int]:
    """The sha256 of a file, and its length in bytes.

    Raises:
        OSError: It can't be read, or is no regular file.
    """
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return digest, os.fstat(file.fileno()).st_size
