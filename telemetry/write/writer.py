"""The write side: one thread, whole lines in single writes, a new file when one is full.

`emit` only stamps an event and queues it. Processors, encoding and the disk belong to the writer's
thread. A file holds each part of a conversation that its requests name, so that it can be read
without earlier files.

No error of the disk reaches a request. Events that cannot be written are dropped and counted, and
the gap shows in `seq`. The thread hands each line to the system at once, so a killed process loses
at most its current line.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from mlxdeck.telemetry.schema.codec import Line, decode, encode
from mlxdeck.telemetry.schema.events import Attrs, Content, ServerStop, StreamStart
from mlxdeck.telemetry.write.processors import Chain, Processor
from mlxdeck.telemetry.write.records import NO_FORM, Late, Part, Record, made_of
from mlxdeck.telemetry.write.rotating_file import RotatingFile

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_QUEUED = 8192
"""Events that may wait for the disk; at 500 a second, the disk may hang for 16 s."""
MAX_HELD_BYTES = 32 * 1024**2
"""What makes an event, and parts of conversations, may hold all of a request. Beyond so many bytes
of requests, events are made at once, and parts are left out: a later turn names them again."""
CLOSE_TIMEOUT_S = 5.0
GATHER_S = 0.01
"""How long the thread waits for more events to write together."""


class MemoryWriter:
    """Keeps events in a list, for tests. Each went through its JSON form and back."""

    dropped_lines = 0
    failing = ""
    path: Path | None = None

    def __init__(self, processors: Sequence[Processor] = ()) -> None:
        self.lines: list[Line] = []
        self.closed = False
        self._chain = Chain(processors)
        self._told: set[str] = set()

    @property
    def processor_failures(self) -> int:
        """How often a processor raised."""
        return self._chain.n_failures

    def emit(
        self,
        attrs: Attrs | Late,
        request_id: str = "",
        session_id: str = "",
        parts: Iterable[Part] = (),
        held_bytes: int = 0,
    ) -> None:
        """Keep the event, and those of the parts that are new."""
        del held_bytes
        made = attrs() if callable(attrs) else attrs
        record = Record(made, time.time(), time.monotonic(), request_id, session_id)
        for each in self._chain.run(record) or ():
            self.lines.append(decode(encoded(each, len(self.lines))))
        for part in parts:
            if part.hash not in self._told:
                self._told.add(part.hash)
                self.emit(part.event(), request_id, session_id)

    def close(self, reason: str = "") -> None:
        """Note that it was called."""
        self.closed = True

    def named(self, event: str) -> list[Line]:
        """The lines of one kind of event, as `request.end`."""
        return [line for line in self.lines if line.event == event]


class _Queued(NamedTuple):
    n_lost: int
    """Events that found no room in the queue before this one."""
    attrs: Attrs | Late
    ts: float
    mono: float
    request_id: str = ""
    session_id: str = ""
    parts: Iterable[Part] = ()
    """Parts to write after the event, if its file does not hold them."""
    held_bytes: int = 0

    def record(self) -> Record:
        """The event, made by now."""
        attrs = self.attrs() if callable(self.attrs) else self.attrs
        return Record(attrs, self.ts, self.mono, self.request_id, self.session_id)


class Writer:
    """Appends events to files in one folder, which may be shared with other processes.

    Every file begins with `header`. A file that has reached `max_bytes` is followed by a new one.
    Of all files with our naming, the `keep_files` most recently written ones are kept.
    """

    def __init__(
        self,
        folder: Path,
        header: StreamStart,
        *,
        max_bytes: int = 64 * 1024**2,
        keep_files: int = 16,
        max_queued: int = MAX_QUEUED,
        processors: Sequence[Processor] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._max_queued = max_queued
        self._began_mono = monotonic()
        # Guards everything down to the blank line. Re-entrant, as a signal handler may emit too.
        self._changed = threading.Condition(threading.RLock())
        self._queue: deque[_Queued] = deque()
        self._n_refused = 0
        """Of events, since the last one that was queued."""
        self._held_bytes = 0
        """Of requests, held by what is queued or being written."""
        self._dropped = 0
        self._closing: str | None = None
        self._ends = threading.Event()

        # The writer's thread is the only user of these, once it runs.
        self._header = header
        self._chain = Chain(processors)
        self._file = RotatingFile(folder, max_bytes, keep_files, clock)
        self._told: set[str] = set()
        """Parts of conversations that the file holds, by their hashes."""
        self._seq = 0
        self._failing = ""
        self._run_guarded(lambda: self._begin_file(clock(), self._began_mono))
        self._thread = threading.Thread(target=self._run, name="telemetry-writer", daemon=True)
        self._thread.start()

    @property
    def dropped_lines(self) -> int:
        """Events lost to a full queue or a disk that failed."""
        return self._dropped

    @property
    def failing(self) -> str:
        """Why the disk takes no events; empty while it does."""
        if self._failing or len(self._queue) < self._max_queued:
            return self._failing
        return "the disk takes no lines in time"

    @property
    def processor_failures(self) -> int:
        """How often a processor raised."""
        return self._chain.n_failures

    @property
    def path(self) -> Path | None:
        """The file that is being written; None while none can be opened."""
        return self._file.path

    def emit(
        self,
        attrs: Attrs | Late,
        request_id: str = "",
        session_id: str = "",
        parts: Iterable[Part] = (),
        held_bytes: int = 0,
    ) -> None:
        """Record an event, from any thread; it is stamped here and written a moment later."""
        made: Attrs | Late | None = attrs
        # One alone may hold any number.
        is_full = bool(self._held_bytes) and self._held_bytes + held_bytes > MAX_HELD_BYTES
        # Nor is one made for which there is no room.
        if is_full and callable(attrs) and len(self._queue) < self._max_queued:
            made = made_of(attrs)
        with self._changed:
            if made is None or self._closing is not None or len(self._queue) >= self._max_queued:
                self._refuse()
                return
            if is_full:
                if parts != ():
                    # One stands for all of them: how many are new isn't known.
                    self._refuse()
                parts, held_bytes = (), 0
            about = (self._clock(), self._monotonic(), request_id, session_id)
            self._queue.append(_Queued(self._n_refused, made, *about, parts, held_bytes))
            self._held_bytes += held_bytes
            self._n_refused = 0
            self._changed.notify()

    def _refuse(self) -> None:
        self._dropped += 1
        self._n_refused += 1

    def close(self, reason: str = "stopped") -> None:
        """Write the queued events and a `server.stop`, then stop. Takes at most 5 s."""
        with self._changed:
            if self._closing is None:
                self._closing = reason
            self._ends.set()
            self._changed.notify()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            logger.warning("telemetry: the disk did not take the last lines in time")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and self._closing is None:
                    self._changed.wait()
            # Several events come with each request. Taking them one by one would change threads
            # as often, in the middle of that request.
            self._ends.wait(GATHER_S)
            with self._changed:
                batch, self._queue = self._queue, deque()
                closing = self._closing
            while batch:
                queued = batch.popleft()
                try:
                    self._take(queued)
                except Exception:
                    # The thread's edge: a bug costs one event, not all that follow.
                    logger.exception("telemetry: an event was dropped")
                    self._lose()
                with self._changed:
                    self._held_bytes -= queued.held_bytes
            if closing is not None:
                break
        self._take(self._stop(closing))
        self._file.close()

    def _stop(self, reason: str) -> _Queued:
        mono = self._monotonic()
        with self._changed:
            n_lost, dropped = self._n_refused, self._dropped
        uptime_s = mono - self._began_mono
        attrs = ServerStop(reason=reason, uptime_s=uptime_s, dropped_lines=dropped)
        return _Queued(n_lost, attrs, self._clock(), mono)

    def _take(self, queued: _Queued) -> None:
        self._seq += queued.n_lost
        # An event and the parts that it names are in the same file.
        if self._file.must_change:
            self._run_guarded(lambda: self._begin_file(queued.ts, queued.mono))
        if (record := self._made(queued.record)) is None:
            return
        self._process(record)
        for part in queued.parts:
            if part.hash not in self._told and (event := self._made(part.event)):
                self._process(replace(record, attrs=event))

    def _made(self, make: Callable[[], T]) -> T | None:
        if (found := made_of(make)) is None:
            self._lose()
        return found

    def _process(self, record: Record) -> None:
        found = self._chain.run(record)
        if found is None:
            self._lose()
        for each in found or ():
            if not self._run_guarded(partial(self._append, each)):
                self._lose()

    def _lose(self) -> None:
        # A gap in the numbers says it in the file.
        self._seq += 1
        with self._changed:
            self._dropped += 1

    def _append(self, record: Record) -> None:
        self._file.append(self._encoded(record))
        self._seq += 1
        if isinstance(record.attrs, Content) and record.attrs.hash:
            self._told.add(record.attrs.hash)

    def _begin_file(self, ts: float, mono: float) -> None:
        previous = self._file.path
        header = msgspec.structs.replace(
            self._header, previous_file=previous.name if previous else ""
        )
        self._told.clear()
        self._file.begin(self._encoded(Record(header, ts, mono)))
        self._seq += 1

    def _encoded(self, record: Record) -> bytes:
        return encoded(record, self._seq)

    def _run_guarded(self, step: Callable[[], None]) -> bool:
        """Whether `step` worked. The first failure of a row is logged, and so is its end."""
        try:
            step()
        except OSError as error:
            if not self._failing:
                logger.warning("telemetry: events are dropped until this ends: %s", error)
            self._failing = str(error)
            return False
        except NO_FORM as error:
            logger.warning("telemetry: an event that has no JSON form was dropped: %s", error)
            return False
        if self._failing:
            logger.warning("telemetry: events are recorded again, in %s", self._file.path)
        self._failing = ""
        return True


def encoded(record: Record, seq: int) -> bytes:
    """A record as its line."""
    return encode(
        record.attrs,
        ts=record.ts,
        mono=record.mono,
        seq=seq,
        pid=os.getpid(),
        request_id=record.request_id,
        session_id=record.session_id,
    )
