"""Copies what can't be read at any place into a file that can, decompressed. For one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Protocol

from mlxdeck.telemetry.read import spool
from mlxdeck.telemetry.read.decompression import MARK_BYTES, DamagedData, Decompression, method_of
from mlxdeck.telemetry.read.line_buffer import Region
from mlxdeck.telemetry.read.recognition import ForeignData, is_enough, kind_of, told_kind
from mlxdeck.telemetry.transcripts.transcript_feed import TranscriptWriter

_CHUNK_BYTES = 64 << 10
_CHECK_BYTES = 64 << 20
"""After so much, the room on the disk is looked at again."""


class ByteSource(Protocol):
    """What comes from front to back; no call waits."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is there: for good of a pipe, for now of a file."""

    @property
    def unread_bytes(self) -> int:
        """How much is known to be left."""

    @property
    def writer_left(self) -> bool:
        """Whether it is a pipe that nobody writes to any more."""

    def read(self, max_bytes: int) -> bytes:
        """What has come; empty if nothing has."""

    def close(self) -> None:
        """Close it."""


class ByteFeed:
    """One source and the file it is copied to."""

    def __init__(self, source: ByteSource, out: Path, name: str) -> None:
        """`name` is what messages call the source; `out` is made."""
        self.path = out
        self.trouble = ""
        """Why nothing can be read of it."""
        self._damage = ""
        self._source, self._name = source, name
        self._out = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._head: bytes | None = b""
        """What has come until it is known what it is; None from then on."""
        self._transcript: TranscriptWriter | None = None
        self._region = Region(0)
        self._raw_head: bytes | None = b""
        self._decompression: Decompression | None = None
        self._coming: Iterator[bytes] = iter(())
        self._checked_at = _CHECK_BYTES
        self._written = 0

    @property
    def unread_bytes(self) -> int:
        """How much is known to be left, as it comes."""
        return 0 if self._over else self._source.unread_bytes

    @property
    def pending(self) -> bool:
        """Whether more may come."""
        return not self._over and not self._source.ended

    @property
    def writer_left(self) -> bool:
        """Whether it is a pipe that nobody writes to any more."""
        return self._source.writer_left

    @property
    def note(self) -> str:
        """What is to be known of data that can be read only in part; else empty."""
        if self._damage:
            return f"{self._name}: {self._damage}; what came before it is shown"
        if self._source.ended and self._decompression and self._decompression.torn:
            method = self._decompression.method
            return f"{self._name} ends in the middle of its {method} data; the rest is missing"
        return ""

    @property
    def _over(self) -> bool:
        return bool(self.trouble or self._damage)

    def feed(self, max_bytes: int) -> None:
        """Copy what has come, up to about so much."""
        goal = self._written + max_bytes
        try:
            while not self._over and self._written < goal:
                piece = next(self._coming, None)
                if piece is not None:
                    self._take(piece)
                elif not self._more():
                    break
        except DamagedData as error:
            self._damage = str(error)
        except ForeignData as error:
            self.trouble = f"{self._name} {error}"
        except OSError as error:
            self.trouble = f"{self._name}: {error.strerror}"

    def _more(self) -> bool:
        """Whether there is more to take."""
        raw = self._source.read(_CHUNK_BYTES)
        if self._raw_head is not None:
            self._raw_head += raw
            if len(self._raw_head) < MARK_BYTES and not self._source.ended:
                return bool(raw)
            raw, self._raw_head = self._raw_head, None
            if mark := method_of(raw):
                self._decompression = Decompression(mark)
        if raw:
            self._coming = self._decompression.pieces(raw) if self._decompression else iter([raw])
        elif self._source.ended:
            if self._head:
                self._judge(self._head, whole=True)
            if self._transcript:
                self._transcript.take(self._region.rest)
                self._region.take_rest()
                self._transcript.settle(inf)
        return bool(raw)

    def _take(self, piece: bytes) -> None:
        if self._head is None:
            self._write(piece)
        else:
            self._head += piece
            self._judge(self._head, whole=False)

    def _judge(self, head: bytes, *, whole: bool) -> None:
        """Find out what it is; wait for more if that is not clear yet."""
        kind = told_kind(head)
        if kind is None:
            if not whole and not is_enough(head):
                return
            kind = kind_of(head + b"\n" if whole else head)
            if kind is None and not whole:
                raise ForeignData("is one long line, and no telemetry")
        self._head = None
        if kind == "transcript":
            self._transcript = TranscriptWriter(self.path)
        self._write(head)

    def _write(self, raw: bytes) -> None:
        if self._transcript:
            for _, lines in self._region.cut(raw):
                self._transcript.take(lines)
        else:
            view = memoryview(raw)
            while view:
                view = view[os.write(self._out, view) :]
        self._written += len(raw)
        if self._written >= self._checked_at:
            self._checked_at = self._written + _CHECK_BYTES
            if not spool.has_room(self.path):
                raise DamagedData("the disk is nearly full, so no more of it is read")

    def close(self) -> None:
        """Close both ends; the copy stays."""
        self._source.close()
        if self._transcript:
            self._transcript.close()
        os.close(self._out)
