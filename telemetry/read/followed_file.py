"""One plain file that may grow, be rotated, truncated or replaced while it is read."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from mlxdeck.telemetry.columns.record_batch import RecordBatch
from mlxdeck.telemetry.read.fast_decode import skim
from mlxdeck.telemetry.read.frames import Frame, frame
from mlxdeck.telemetry.read.line_buffer import CHUNK_BYTES, Region
from mlxdeck.telemetry.read.parallel_reader import FilePart, line_after, parts

NEWEST_BYTES = 4 << 20
"""So much of a file's end is read before the rest, where that is wanted."""


class FollowedFile:
    """One file from some offset on; of a long one its end first, if that is wanted."""

    def __init__(self, path: Path, *, newest_first: bool) -> None:
        self.path = path
        self.trouble = ""
        """Why it can't be opened; empty if it can, or isn't there."""
        self.note = ""
        self.pending = False
        """For what is no plain file: whether it is known that more will come."""
        self.writer_left = False
        """For a pipe: whether nobody writes to it any more."""
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
