"""Where bytes come from that can't be read at any place: a pipe, or a file from front to back."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path


class FileSource:
    """A plain file; more may come at its end."""

    writer_left = False

    def __init__(self, path: Path) -> None:
        """Raises OSError if it can't be opened."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._at = 0
        self._left_bytes: int | None = None
        """How much was left when it was closed."""

    @property
    def unread_bytes(self) -> int:
        """How much of it is left; once it is closed, how much was."""
        if self._left_bytes is not None:
            return self._left_bytes
        return max(0, os.fstat(self._fd).st_size - self._at)

    @property
    def ended(self) -> bool:
        """Whether all is read that there is."""
        return not self.unread_bytes

    def read(self, max_bytes: int) -> bytes:
        """What comes next; empty if nothing does now."""
        found = os.pread(self._fd, max_bytes, self._at)
        self._at += len(found)
        return found

    def close(self) -> None:
        """Close it."""
        self._left_bytes = self.unread_bytes
        os.close(self._fd)


class PipeSource:
    """A pipe, a FIFO or another thing that is over when its last writer closes it.

    No call waits: whoever reads also has keys to answer.
    """

    unread_bytes = 0

    def __init__(self, fd: int, *, named: bool) -> None:
        """`named`: a FIFO that was opened by its name, perhaps before anybody writes to it."""
        self._fd = fd
        # Linux tells a FIFO without a writer yet from one whose writer has gone.
        self._begun = not named or sys.platform == "linux"
        self.ended = False

    @classmethod
    def of(cls, path: Path) -> PipeSource:
        """One with a name; raises OSError if it can't be opened."""
        # Without the flag, this would wait for a writer.
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), named=True)

    @property
    def writer_left(self) -> bool:
        """Whether nobody writes to it any more."""
        return self.ended

    def read(self, max_bytes: int) -> bytes:
        """What has come; empty if nothing has."""
        if not select.select([self._fd], [], [], 0)[0]:
            return b""
        try:
            found = os.read(self._fd, max_bytes)
        except BlockingIOError:
            self._begun = True
            return b""
        self.ended = self._begun and not found
        self._begun = self._begun or bool(found)
        return found

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)
