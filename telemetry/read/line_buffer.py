"""A stretch of a file, read in chunks and cut where its lines end. Touches no file itself."""

from __future__ import annotations

from collections.abc import Iterator

CHUNK_BYTES = 1 << 20
"""So much is decoded at once: less costs more rounds, more would hold up the keyboard."""
MAX_LINE_BYTES = 16 << 20
"""A longer line is no telemetry of ours; it is skipped up to its end."""


class Region:
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

    @property
    def cut_at(self) -> int:
        """Up to where its lines have been given out."""
        return self._offset

    @property
    def rest(self) -> bytes:
        """The part of an incomplete line that has been read; empty while a line is skipped."""
        return b"" if self._skipping else self._partial

    def take_rest(self) -> None:
        """It has been given out."""
        self._offset += len(self._partial)
        self._partial = b""

    def room(self, limit: int) -> int:
        """How many bytes may be read of it, at most `limit`."""
        return limit if self._end is None else min(limit, self._end - self.at)

    def cut(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Whole lines with their offset; an incomplete rest is kept for the next chunk."""
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
                # The beginning of the line is passed on, and is counted as a bad line.
                yield self._offset, self._partial[:1000] + b"\n"
            self._offset += len(self._partial)
            self._partial, self._skipping = b"", True
