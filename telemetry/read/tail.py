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

from mlxdeck.telemetry.columns.record_batch import RecordBatch
from mlxdeck.telemetry.read.fast_decode import Bad, skim
from mlxdeck.telemetry.read.frames import Frame, frame
from mlxdeck.telemetry.read.line_buffer import CHUNK_BYTES, Region
from mlxdeck.telemetry.read.parallel_reader import FilePart, line_after, parts
from mlxdeck.telemetry.schema.file_names import FILE_NAME

MAX_KEPT_BAD_LINES = 500
NEWEST_BYTES = 4 << 20
"""So much of a file's end is read before the rest, where that is wanted."""


class BadLine(NamedTuple):
    """A line that could not be read, and why."""

    path: Path
    offset: int
    reason: str


class _File:
    """One file from some offset on; of a long one its end first, if that is wanted."""

    def __init__(self, path: Path, *, newest_first: bool) -> None:
        self.path = path
        self.trouble = ""
        """Why it can't be opened; empty if it can, or isn't there."""
        self._newest_first = newest_first
        self._fd = -1
        self._new = Region(0)
        self._old: deque[FilePart] = deque()
        """Parts of a long file that existed when the file was opened, and are still unread."""

    def read(self, max_bytes: int) -> Iterator[Frame]:
        """Unread data, up to about `max_bytes`."""
        if self._fd < 0 and not self._open():
            return
        left = max_bytes
        while left > 0:
            try:
                found = self._next(min(CHUNK_BYTES, left))
            except OSError:
                # A disk that went away; it may come back.
                self.close()
                return
            if found:
                left -= CHUNK_BYTES
                yield found
            elif not self._changed():
                return

    def _next(self, n_bytes: int) -> Frame | None:
        if not self._newest_first and (found := self._next_old()):
            return found
        if chunk := os.pread(self._fd, n_bytes, self._new.at):
            return frame(self.path, self._new, chunk)
        return self._next_old() or self._last_line()

    def _last_line(self) -> Frame | None:
        """One whose newline is missing though all else is there, as in a file that was cut."""
        raw, offset = self._new.rest, self._new.cut_at
        block = skim(raw + b"\n", offset) if raw.endswith(b"}") else None
        if block is None or block.bad:
            return None
        self._new.take_rest()
        return Frame(self._new.cut_at, [RecordBatch.of(self.path, block.lines, block.offsets)], [])

    def _next_old(self) -> Frame | None:
        """From each part in turn, for they are read at the same time."""
        while self._old:
            if found := self._old[0].next():
                self._old.rotate(-1)
                return found
            self._old.popleft().close()
        return None

    @property
    def unread_bytes(self) -> int:
        """Number of bytes in the file that have not been read."""
        if self._fd < 0:
            return 0
        left = max(0, os.fstat(self._fd).st_size - self._new.at)
        return left + sum(part.unread_bytes for part in self._old)

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
        self._end_old()
        self._new = Region(0)
        start = os.fstat(self._fd).st_size - NEWEST_BYTES
        if start < NEWEST_BYTES:
            return
        boundary = line_after(self._fd, start)
        self._new = Region(boundary)
        self._old = deque(parts(self.path, self._fd, boundary))

    def _end_old(self) -> None:
        while self._old:
            self._old.pop().close()

    def _changed(self) -> bool:
        """At the end of the open file: whether it, or a replacement, has new data."""
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
        # The file was renamed and a new one has its name; the old one has been read to its end.
        self.close()
        return self._open()

    def close(self) -> None:
        """Close the file."""
        self._end_old()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        # Whoever polls may give up in the middle, as after an error.
        self.close()


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
        self._passed: dict[Path, float] = {}
        """Streams of folders that are not followed, and when each was written last."""
        self._looked: set[Path] = set()
        self._refused = ""
        self.n_lines = self.n_bad = 0
        """Lines that could be read, and that could not."""
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
        """Number of unread bytes in all files."""
        return sum(file.unread_bytes for file in self._files.values())

    def poll(self, max_bytes: int = 32 * CHUNK_BYTES) -> Iterator[RecordBatch]:
        """Data since the last call, up to about `max_bytes` a file."""
        self._look()
        for file in self._files.values():
            for found in file.read(max_bytes):
                for bad in found.bad:
                    self._note(file.path, bad)
                for batch in found.batches:
                    self.n_lines += batch.n_lines
                    yield batch

    def close(self) -> None:
        """Close every file."""
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
        fresh = found - self._files.keys()
        if folder not in self._looked and fresh:
            self._looked.add(folder)
            if not self._whole_folders:
                newest = max(fresh, key=_last_written)
                self._passed |= {path: _last_written(path)[0] for path in fresh - {newest}}
        for path in sorted(fresh):
            # Another server may still write to an older one.
            if path not in self._passed or _last_written(path)[0] > self._passed[path]:
                self._follow(path)

    def _follow(self, path: Path) -> None:
        known = {os.path.realpath(each) for each in self._files}
        if os.path.realpath(path) not in known:
            self._files[path] = _File(path, newest_first=self._newest_first)

    def _note(self, path: Path, bad: Bad) -> None:
        if bad.newer:
            self._refused = f"{path.name}: {bad.reason}"
        else:
            self.n_bad += 1
            self.bad.append(BadLine(path, bad.offset, bad.reason))


def _last_written(path: Path) -> tuple[float, str]:
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name
