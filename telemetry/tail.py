"""The read side: follows streams as they grow, are rotated, truncated or replaced.

Polled, not notified: four looks a second cost nothing and work on every file system. A line that
can't be read is counted and kept for the user to see; it never ends the tailing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mlxdeck.telemetry.batch import Batch
from mlxdeck.telemetry.events import NewerSchema
from mlxdeck.telemetry.files import FILE_NAME
from mlxdeck.telemetry.skim import skim

CHUNK_BYTES = 256 << 10
"""So much is decoded at once: as long as that stays in a core's cache, it is fastest."""
MAX_LINE_BYTES = 16 << 20
"""A longer line is no telemetry of ours; it is skipped up to its end."""
MAX_KEPT_BAD_LINES = 500
NEWEST_BYTES = 4 << 20
"""So much of a file's end is read before the rest, where that is wanted."""


class BadLine(NamedTuple):
    """A line that could not be read, and why."""

    path: Path
    offset: int
    reason: str


class _Region:
    """A stretch of a file, read from its start on and cut where lines end."""

    def __init__(self, start: int, end: int | None = None) -> None:
        self._offset = start
        self._end = end
        self._partial = b""
        self._skipping = False

    @property
    def at(self) -> int:
        """Up to where it has been read."""
        return self._offset + len(self._partial)

    def room(self, limit: int) -> int:
        """How many bytes may be read of it, at most `limit`."""
        return limit if self._end is None else min(limit, self._end - self.at)

    def cut(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Whole lines with where they begin; what is left waits for more."""
        text = self._partial + chunk
        whole = text.rfind(b"\n") + 1
        offset, self._partial = self._offset, text[whole:]
        self._offset += whole
        if whole:
            begin = text.find(b"\n") + 1 if self._skipping else 0
            self._skipping = False
            if begin < whole:
                yield offset + begin, text[begin:whole]
        if len(self._partial) > MAX_LINE_BYTES:
            if not self._skipping:
                # Its beginning stands for it, and is counted as a bad line.
                yield self._offset, self._partial[:1000] + b"\n"
            self._offset += len(self._partial)
            self._partial, self._skipping = b"", True


class _File:
    """One file from some offset on; of a long one its end first, if that is wanted."""

    def __init__(self, path: Path, *, newest_first: bool) -> None:
        self.path = path
        self.trouble = ""
        """Why it can't be opened; empty if it can, or isn't there."""
        self._newest_first = newest_first
        self._fd = -1
        self._new = _Region(0)
        self._old: _Region | None = None

    def read(self, max_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Whole lines that have not been read yet, with where they begin."""
        if self._fd < 0 and not self._open():
            return
        left = max_bytes
        while left > 0:
            region, chunk = self._chunk(min(CHUNK_BYTES, left))
            if chunk:
                left -= len(chunk)
                yield from region.cut(chunk)
            elif self._fd < 0 or not self._changed():
                return

    def _chunk(self, n_bytes: int) -> tuple[_Region, bytes]:
        """What comes next, and which part it is of; the new before the old."""
        try:
            chunk = os.pread(self._fd, n_bytes, self._new.at)
            if chunk or self._old is None:
                return self._new, chunk
            region = self._old
            chunk = os.pread(self._fd, region.room(n_bytes), region.at)
        except OSError:
            # A disk that went away; it may come back.
            self.close()
            return self._new, b""
        if not region.room(1 + len(chunk)) > len(chunk):
            self._old = None
        return region, chunk

    @property
    def unread_bytes(self) -> int:
        """What is there and hasn't been read."""
        if self._fd < 0:
            return 0
        left = max(0, os.fstat(self._fd).st_size - self._new.at)
        return left + (self._old.room(1 << 62) if self._old else 0)

    def _open(self) -> bool:
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            self.trouble = f"{self.path.name}: {error.strerror}"
            return False
        self.trouble = ""
        self._restart()
        return True

    def _restart(self) -> None:
        self._new, self._old = _Region(0), None
        start = os.fstat(self._fd).st_size - NEWEST_BYTES
        if not self._newest_first or start < NEWEST_BYTES:
            return
        found = os.pread(self._fd, NEWEST_BYTES, start).find(b"\n")
        if found >= 0:
            boundary = start + found + 1
            self._new, self._old = _Region(boundary), _Region(0, boundary)

    def _changed(self) -> bool:
        """At the end of what is open: whether there is something else to read by now."""
        ours = os.fstat(self._fd)
        if ours.st_size < self._new.at:
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

    def __init__(
        self, paths: Sequence[Path], *, whole_folders: bool = False, newest_first: bool = False
    ) -> None:
        """`whole_folders`: all streams of a folder, not only the newest and those to come."""
        self._paths = list(paths)
        self._whole_folders = whole_folders
        self._newest_first = newest_first
        self._files: dict[Path, _File] = {}
        self._seen: set[Path] = set()
        self._looked: set[Path] = set()
        self._refused = ""
        self.n_bad = 0
        self.bad: deque[BadLine] = deque(maxlen=MAX_KEPT_BAD_LINES)

    @property
    def following(self) -> list[Path]:
        """The files that are being read; empty while there is none yet."""
        return list(self._files)

    @property
    def refused(self) -> str:
        """Why a stream can't be read; empty if all can."""
        return next((file.trouble for file in self._files.values() if file.trouble), self._refused)

    @property
    def unread_bytes(self) -> int:
        """What is there in all the files and hasn't been read."""
        return sum(file.unread_bytes for file in self._files.values())

    def poll(self, max_bytes: int = 32 * CHUNK_BYTES) -> Iterator[Batch]:
        """What has come since the last call, up to about `max_bytes` a file."""
        self._look()
        for file in self._files.values():
            for offset, raw in file.read(max_bytes):
                block = skim(raw, offset)
                for bad in block.bad:
                    self._note(file.path, bad.offset, bad.error)
                if block.lines:
                    yield Batch.of(file.path, block.lines, block.offsets)

    def close(self) -> None:
        """Let go of every file."""
        for file in self._files.values():
            file.close()

    def _look(self) -> None:
        for path in self._paths:
            if os.path.isdir(path):
                self._look_in(path)
            elif path not in self._files and os.path.exists(path):
                self._follow(path)

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
            self._follow(path)

    def _follow(self, path: Path) -> None:
        self._files[path] = _File(path, newest_first=self._newest_first)

    def _note(self, path: Path, offset: int, error: Exception) -> None:
        if isinstance(error, NewerSchema):
            self._refused = f"{path.name}: {error}"
        else:
            self.n_bad += 1
            self.bad.append(BadLine(path, offset, str(error)))


def _last_written(path: Path) -> tuple[float, str]:
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name
