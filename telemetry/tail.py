"""The read side: follows streams as they grow, are rotated, truncated or replaced.

Polled, not notified: four looks a second cost nothing and work on every file system. A line that
can't be read is counted and kept for the user to see; it never ends the tailing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mlxdeck.telemetry.events import Line, NewerSchema, Unreadable, decode
from mlxdeck.telemetry.files import FILE_NAME

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
"""A longer line is no telemetry of ours; it is skipped up to its end."""
MAX_KEPT_BAD_LINES = 50


class Record(NamedTuple):
    """A line and where it stands, to be read again when its details are asked for."""

    line: Line
    path: Path
    offset: int


class BadLine(NamedTuple):
    """A line that could not be read, and why."""

    path: Path
    offset: int
    reason: str


class _File:
    """One file from some offset on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._offset = 0
        self._partial = b""
        self._skipping = False

    def read(self, max_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Whole new lines with their offsets, without their newlines."""
        if self._fd < 0 and not self._open():
            return
        left = max_bytes
        while left > 0:
            try:
                at = self._offset + len(self._partial)
                chunk = os.pread(self._fd, min(CHUNK_BYTES, left), at)
            except OSError:
                # A disk that went away; it may come back.
                self.close()
                return
            if chunk:
                left -= len(chunk)
                yield from self._lines(chunk)
            elif not self._changed():
                return

    def _lines(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        *whole, rest = (self._partial + chunk).split(b"\n")
        for line in whole:
            if not self._skipping:
                yield self._offset, line
            self._skipping = False
            self._offset += len(line) + 1
        self._partial = rest
        if len(rest) > MAX_LINE_BYTES:
            if not self._skipping:
                # Its beginning stands for it, and is counted as a bad line.
                yield self._offset, rest[:1000]
            self._offset += len(rest)
            self._partial, self._skipping = b"", True

    def _open(self) -> bool:
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        self._restart()
        return True

    def _restart(self) -> None:
        self._offset, self._partial, self._skipping = 0, b"", False

    def _changed(self) -> bool:
        """At the end of what is open: whether there is something else to read by now."""
        ours = os.fstat(self._fd)
        if ours.st_size < self._offset + len(self._partial):
            self._restart()
            return ours.st_size > 0
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return False
        # Renamed away and begun anew; all of the old one has been read.
        self.close()
        return self._open()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Tail:
    """Follows files, and the streams of folders. For one thread."""

    def __init__(self, paths: Sequence[Path], *, whole_folders: bool = False) -> None:
        """`whole_folders`: all streams of a folder, not only the newest and those to come."""
        self._paths = list(paths)
        self._whole_folders = whole_folders
        self._files: dict[Path, _File] = {}
        self._seen: set[Path] = set()
        self._looked: set[Path] = set()
        self.n_bad = 0
        self.bad: deque[BadLine] = deque(maxlen=MAX_KEPT_BAD_LINES)
        self.refused = ""
        """Why a newer stream can't be read; empty if there is none."""

    @property
    def following(self) -> list[Path]:
        """The files that are being read; empty while there is none yet."""
        return list(self._files)

    def poll(self, max_bytes: int = 8 * CHUNK_BYTES) -> list[Record]:
        """What has come since the last call, up to about `max_bytes` a file."""
        self._look()
        records: list[Record] = []
        for file in self._files.values():
            records += self._decoded(file.path, file.read(max_bytes))
        return records

    def close(self) -> None:
        """Let go of every file."""
        for file in self._files.values():
            file.close()

    def _look(self) -> None:
        for path in self._paths:
            if os.path.isdir(path):
                self._look_in(path)
            elif path not in self._files and os.path.exists(path):
                self._files[path] = _File(path)

    def _look_in(self, folder: Path) -> None:
        """Follow a folder's newest stream, or all, and every one that appears later."""
        try:
            found = {path for path in folder.iterdir() if FILE_NAME.fullmatch(path.name)}
        except OSError:
            # Removed, or not ours to read; either may change.
            return
        fresh = found - self._seen
        if folder not in self._looked and fresh:
            self._looked.add(folder)
            self._seen |= found
            if not self._whole_folders:
                fresh = {max(fresh, key=_last_written)}
        for path in sorted(fresh):
            self._seen.add(path)
            self._files[path] = _File(path)

    def _decoded(self, path: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[Record]:
        for offset, raw in lines:
            if not raw.strip():
                continue
            try:
                yield Record(decode(raw), path, offset)
            except NewerSchema as error:
                self.refused = f"{path.name}: {error}"
            except Unreadable as error:
                self.n_bad += 1
                self.bad.append(BadLine(path, offset, str(error)))


def _last_written(path: Path) -> tuple[float, str]:
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name


def read_line(path: Path, offset: int) -> bytes:
    """The line at an offset, as it was written; empty if the file is gone."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.readline(MAX_LINE_BYTES).rstrip(b"\n")
    except OSError:
        return b""
