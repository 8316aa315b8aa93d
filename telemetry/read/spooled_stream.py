"""A stream that is copied before it is read: what feeds the copy, and the copy. For one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mlxdeck.telemetry.read.followed_file import FollowedFile
from mlxdeck.telemetry.read.frames import Frame


class Growing(Protocol):
    """Where lines come from, and how things are there."""

    path: Path
    """The plain file with the lines."""

    @property
    def trouble(self) -> str:
        """Why it can't be read; empty if it can."""

    @property
    def note(self) -> str:
        """What else a person should know; else empty."""

    @property
    def pending(self) -> bool:
        """Whether it is known that more will come."""

    @property
    def unread_bytes(self) -> int:
        """How much is left."""

    @property
    def writer_left(self) -> bool:
        """Whether it is a pipe that nobody writes to any more."""

    def close(self) -> None:
        """Close it; a copy stays."""


class Feed(Growing, Protocol):
    """What writes a copy, piece by piece. No call waits."""

    def feed(self, max_bytes: int) -> None:
        """Copy about so much."""


class SpooledStream:
    """What `FollowedFile` is for a plain file."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._copy = FollowedFile(feed.path, newest_first=False)
        self.path = feed.path

    @property
    def trouble(self) -> str:
        """Why it can't be read; empty if it can."""
        return self._feed.trouble or self._copy.trouble

    @property
    def note(self) -> str:
        """What else a person should know; else empty."""
        return self._feed.note

    @property
    def pending(self) -> bool:
        """Whether it is known that more will come."""
        return self._feed.pending or self._copy.unread_bytes > 0

    @property
    def writer_left(self) -> bool:
        """Whether it is a pipe that nobody writes to any more."""
        return self._feed.writer_left

    @property
    def unread_bytes(self) -> int:
        """How much is left of both."""
        return self._feed.unread_bytes + self._copy.unread_bytes

    def read(self, max_bytes: int) -> Iterator[Frame]:
        """Unread data, up to about `max_bytes`."""
        self._feed.feed(max_bytes)
        yield from self._copy.read(max_bytes)

    def close(self) -> None:
        """Close both; the copy stays for whoever reads a request again."""
        self._feed.close()
        self._copy.close()
