"""Follows transcripts and writes their events into a stream of our own. For one thread."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from mlxdeck.telemetry.read import spool
from mlxdeck.telemetry.read.line_buffer import Region
from mlxdeck.telemetry.transcripts.conversion import Conversion
from mlxdeck.telemetry.transcripts.transcript_files import TranscriptFile, found_in, one_file
from mlxdeck.telemetry.transcripts.transcript_lines import line_of

NAME = "transcripts.jsonl"
_CHUNK_BYTES = 256 << 10
_SHRINKS = 4
"""Events are shorter than the lines that they are made of: at least so much."""
_LOOK_S = 2.0
"""Between two looks for new files."""
_RECENT_S = 86_400.0
"""Files that were written to within a day are looked at each time, others with the new ones."""


class TranscriptWriter:
    """Turns lines into events, and writes them."""

    def __init__(self, out: Path) -> None:
        self.conversion = Conversion()
        self._out = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def take(self, raw: bytes) -> None:
        """Whole lines."""
        self._write(
            event
            for text in raw.split(b"\n")
            if text and (line := line_of(text))
            for event in self.conversion.take(line)
        )

    def settle(self, now_ts: float) -> None:
        """End what has gone quiet."""
        self._write(self.conversion.settle(now_ts))

    def _write(self, events: Iterator[bytes]) -> None:
        view = memoryview(b"".join(events))
        while view:
            view = view[os.write(self._out, view) :]

    def close(self) -> None:
        """Close the stream."""
        os.close(self._out)


class _Reading:
    """How far a file is read."""

    def __init__(self, file: TranscriptFile) -> None:
        self.file = file
        self.region = Region(0)
        self.size = 0
        self.written_ts = 0.0

    @property
    def unread_bytes(self) -> int:
        return max(0, self.size - self.region.at)

    def look(self) -> bool:
        """Whether there is more to read."""
        try:
            about = self.file.path.stat()
        except OSError:
            return False
        self.size, self.written_ts = about.st_size, about.st_mtime
        if self.size < self.region.at:
            # Written anew.
            self.region = Region(0)
        return self.unread_bytes > 0

    def lines(self) -> Iterator[bytes]:
        """Whole lines of the next chunk; the last one may lack its newline."""
        try:
            with self.file.path.open("rb") as opened:
                opened.seek(self.region.at)
                chunk = opened.read(_CHUNK_BYTES)
        except OSError:
            self.size = 0
            return
        self.size = max(self.size, self.region.at + len(chunk)) if chunk else self.region.at
        for _, raw in self.region.cut(chunk):
            yield raw
        if not self.unread_bytes and line_of(rest := self.region.rest):
            self.region.take_rest()
            yield rest


class TranscriptFeed:
    """A folder of transcripts, or one, as a stream that grows."""

    def __init__(self, place: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = spool.new_folder() / NAME
        self.trouble = ""
        self.note = ""
        self._place, self._clock = place, clock
        self._writer = TranscriptWriter(self.path)
        self._known: dict[Path, _Reading] = {}
        self._queue: deque[_Reading] = deque()
        self._left_bytes = 0
        self._looked_s = 0.0
        self._begun = False

    writer_left = False

    @property
    def unread_bytes(self) -> int:
        """How much is left of all files."""
        return self._left_bytes

    @property
    def pending(self) -> bool:
        """Whether there is more to read now."""
        return bool(self._queue) or not self._begun

    def feed(self, max_bytes: int) -> None:
        """Read about so much."""
        self._begun = True
        self._look()
        goal_bytes = self._left_bytes - max_bytes * _SHRINKS
        try:
            while self._queue and self._left_bytes > goal_bytes:
                self._read(self._queue[0])
            if not self._queue:
                self._left_bytes = 0
                self._writer.settle(self._clock())
            elif not spool.has_room(self.path):
                self.note = "the disk is nearly full, so no more transcripts are read"
                self._queue.clear()
        except OSError as error:
            self.trouble = f"{self._place}: {error.strerror}"
            self._queue.clear()

    def _read(self, reading: _Reading) -> None:
        before_bytes = reading.unread_bytes
        for raw in reading.lines():
            self._writer.take(raw)
        self._left_bytes -= max(1, before_bytes - reading.unread_bytes)
        if not reading.unread_bytes:
            self._queue.popleft()

    def _look(self) -> None:
        """Find files that are new, or have grown."""
        if self._queue or self.note or self.trouble:
            return
        now_s, everywhere = time.monotonic(), False
        if not self._known or now_s - self._looked_s > _LOOK_S:
            self._looked_s, everywhere = now_s, True
            is_folder = self._place.is_dir()
            for file in found_in(self._place) if is_folder else [one_file(self._place)]:
                if file.path not in self._known:
                    self._add(file)
        recent_ts = self._clock() - _RECENT_S
        for reading in self._known.values():
            if (everywhere or reading.written_ts > recent_ts) and reading.look():
                self._queue.append(reading)
                self._left_bytes += reading.unread_bytes

    def _add(self, file: TranscriptFile) -> None:
        self._known[file.path] = _Reading(file)
        if file.session:
            meta = file.meta
            self._writer.conversion.introduce(
                file.session, file.agent, meta.kind, meta.task, meta.started_by
            )

    def close(self) -> None:
        """Close the stream; it stays for whoever reads a request again."""
        self._writer.close()
