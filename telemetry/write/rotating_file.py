"""Where events lie on disk: how files are begun, appended to, and removed when old.

Knows bytes only. A file belongs to the process that began it; several processes may share the
folder. Not safe for threads: the writer's thread is the only user.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from mlxdeck.telemetry.schema.file_names import names, stream_files

logger = logging.getLogger(__name__)


class RotatingFile:
    """Appends lines to a file of its own, and starts another one on request."""

    def __init__(
        self, folder: Path, max_bytes: int, keep_files: int, clock: Callable[[], float]
    ) -> None:
        self.path: Path | None = None
        """The file begun last, whether it can still be written or not."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._keep_files = keep_files
        self._clock = clock
        self._fd = -1
        self._n_bytes = 0
        self._torn = False
        self._begun: set[Path] = set()

    @property
    def must_change(self) -> bool:
        """Whether the next line belongs in a new file: none is open, or it is full or deleted."""
        if self._fd < 0 or self._n_bytes >= self._max_bytes:
            return True
        try:
            return os.fstat(self._fd).st_nlink == 0
        except OSError:
            # A disk that went away.
            return True

    def begin(self, header: bytes) -> None:
        """Leave the current file and open a new one, whose first line is `header`.

        Raises:
            OSError: There is no new file then, and the current one is left all the same.
        """
        self.close()
        _make_folder(self._folder)
        path, self._fd = self._open()
        self._n_bytes, self._torn = 0, False
        try:
            self.append(header)
        except OSError:
            # A file without its header would be unreadable from the start.
            self.close()
            path.unlink(missing_ok=True)
            raise
        self.path = path
        self._begun.add(path)
        self._remove_oldest()

    def append(self, line: bytes) -> None:
        """Write a line, newline included, in one go.

        When the disk takes only a part of it, the next line first ends the torn one.

        Raises:
            OSError: The line is not in the file, or not as a whole.
        """
        if self._fd < 0:
            raise OSError("no file could be begun")
        data = b"\n" + line if self._torn else line
        n_written = 0
        try:
            while n_written < len(data):
                n = os.write(self._fd, data[n_written:])
                if n == 0:
                    raise OSError("the disk takes no more bytes")
                n_written += n
        finally:
            self._n_bytes += n_written
            if n_written:
                self._torn = not data[:n_written].endswith(b"\n")

    def close(self) -> None:
        """Close the file; `begin` opens another one."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _open(self) -> tuple[Path, int]:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        for path in names(self._folder, self._clock(), os.getpid()):
            try:
                return path, os.open(path, flags, 0o600)
            except FileExistsError:
                continue
        raise AssertionError("unreachable: there are endless names")

    def _remove_oldest(self) -> None:
        others = [path for path in stream_files(self._folder) if path != self.path]
        if self._folder.is_symlink():
            # An existing file of this name may belong to somebody else.
            others = [path for path in others if path in self._begun]
        for path in others[: max(0, len(others) + 1 - self._keep_files)]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("telemetry: an old file stays: %s", error)


def _make_folder(folder: Path) -> None:
    """A folder that only its owner can look into, and those above it that are missing too."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
