"""The write side: one thread, whole lines in single writes, a new file when one is full.

`emit` only stamps an event and queues it; encoding and the disk belong to the writer's thread. No
fault of the disk reaches a request: what cannot be written is dropped and counted, and the gap
shows in `seq`. A line is handed to the system as soon as the thread gets to it, so a killed
process loses at most what it was just about to write.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from mlxdeck.telemetry.schema.codec import Line, decode, encode
from mlxdeck.telemetry.schema.events import Attrs, ServerStop, StreamStart
from mlxdeck.telemetry.write.rotating_file import RotatingFile

logger = logging.getLogger(__name__)

MAX_QUEUED = 8192
"""Events that may wait for the disk; at 500 a second, the disk may hang for 16 s."""
CLOSE_TIMEOUT_S = 5.0


class Emitter(Protocol):
    """What takes events. No method blocks on a disk, except `close`, and none raises."""

    @property
    def dropped_lines(self) -> int:
        """Events that were lost so far."""
        ...

    @property
    def path(self) -> Path | None:
        """The file that is being written, None if there is none."""
        ...

    def emit(self, attrs: Attrs, request_id: str = "", session_id: str = "") -> None:
        """Record an event, from any thread."""
        ...

    def close(self, reason: str = "") -> None:
        """Write what is queued, and stop. Events that come later are dropped."""
        ...


class NullWriter:
    """Records nothing: telemetry is off."""

    dropped_lines = 0
    path: Path | None = None

    def emit(self, attrs: Attrs, request_id: str = "", session_id: str = "") -> None:
        """Forget the event."""

    def close(self, reason: str = "") -> None:
        """Do nothing."""


class MemoryWriter:
    """Keeps events in a list, for tests. Each went through its JSON form and back."""

    dropped_lines = 0
    path: Path | None = None

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.closed = False

    def emit(self, attrs: Attrs, request_id: str = "", session_id: str = "") -> None:
        """Keep the event."""
        encoded = encode(
            attrs,
            ts=time.time(),
            mono=time.monotonic(),
            seq=len(self.lines),
            pid=os.getpid(),
            request_id=request_id,
            session_id=session_id,
        )
        self.lines.append(decode(encoded))

    def close(self, reason: str = "") -> None:
        """Note that it was called."""
        self.closed = True

    def named(self, event: str) -> list[Line]:
        """The lines of one kind of event, as `request.end`."""
        return [line for line in self.lines if line.event == event]


class _Queued(NamedTuple):
    attrs: Attrs
    ts: float
    mono: float
    seq: int
    request_id: str
    session_id: str


class Writer:
    """Appends events to files in one folder, which may be shared with other processes.

    Every file begins with `header`. A file that has reached `max_bytes` is followed by a new one,
    and of all files named like ours, the `keep_files` written to last are kept.
    """

    def __init__(
        self,
        folder: Path,
        header: StreamStart,
        *,
        max_bytes: int = 64 * 1024**2,
        keep_files: int = 16,
        max_queued: int = MAX_QUEUED,
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
        self._next_seq = 0
        self._dropped = 0
        self._closing: str | None = None

        # The writer's thread is the only user of these, once it runs.
        self._header = header
        self._file = RotatingFile(folder, max_bytes, keep_files, clock)
        self._n_headers = 0
        self._failing = False
        self._run_guarded(lambda: self._begin_file(clock(), self._began_mono, seq=0))
        self._thread = threading.Thread(target=self._run, name="telemetry-writer", daemon=True)
        self._thread.start()

    @property
    def dropped_lines(self) -> int:
        """Events lost to a full queue or a disk that failed."""
        return self._dropped

    @property
    def path(self) -> Path | None:
        """The file that is being written; None while none can be opened."""
        return self._file.path

    def emit(self, attrs: Attrs, request_id: str = "", session_id: str = "") -> None:
        """Record an event, from any thread; it is stamped here and written a moment later."""
        with self._changed:
            seq = self._next_seq
            self._next_seq += 1
            if self._closing is not None or len(self._queue) >= self._max_queued:
                self._dropped += 1
                return
            ts, mono = self._clock(), self._monotonic()
            self._queue.append(_Queued(attrs, ts, mono, seq, request_id, session_id))
            self._changed.notify()

    def close(self, reason: str = "stopped") -> None:
        """Write what is queued and a `server.stop`, and stop; returns after 5 s at the latest."""
        with self._changed:
            if self._closing is None:
                self._closing = reason
            self._changed.notify()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            logger.warning("telemetry: the disk did not take the last lines in time")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and self._closing is None:
                    self._changed.wait()
                batch = list(self._queue)
                self._queue.clear()
                closing = self._closing
            for queued in batch:
                self._write(queued)
            if closing is not None:
                break
        self._write(self._stop(closing))
        self._file.close()

    def _stop(self, reason: str) -> _Queued:
        mono = self._monotonic()
        with self._changed:
            seq, dropped = self._next_seq, self._dropped
        uptime_s = mono - self._began_mono
        attrs = ServerStop(reason=reason, uptime_s=uptime_s, dropped_lines=dropped)
        return _Queued(attrs, self._clock(), mono, seq, "", "")

    def _write(self, queued: _Queued) -> None:
        def append() -> None:
            if self._file.must_change:
                self._begin_file(queued.ts, queued.mono, queued.seq)
            self._file.append(self._encoded(queued))

        if not self._run_guarded(append):
            with self._changed:
                self._dropped += 1

    def _begin_file(self, ts: float, mono: float, seq: int) -> None:
        previous = self._file.path
        header = msgspec.structs.replace(
            self._header, previous_file=previous.name if previous else ""
        )
        self._file.begin(self._encoded(_Queued(header, ts, mono, seq, "", "")))
        self._n_headers += 1

    def _encoded(self, queued: _Queued) -> bytes:
        return encode(
            queued.attrs,
            ts=queued.ts,
            mono=queued.mono,
            # The headers between events are numbered too, so that a gap always means a loss.
            seq=queued.seq + self._n_headers,
            pid=os.getpid(),
            request_id=queued.request_id,
            session_id=queued.session_id,
        )

    def _run_guarded(self, step: Callable[[], None]) -> bool:
        """Whether `step` worked. The first failure of a row is logged, and so is its end."""
        try:
            step()
        except OSError as error:
            if not self._failing:
                logger.warning("telemetry: events are dropped until this ends: %s", error)
            self._failing = True
            return False
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            logger.warning("telemetry: an event that has no JSON form was dropped: %s", error)
            return False
        if self._failing:
            logger.warning("telemetry: events are recorded again, in %s", self._file.path)
        self._failing = False
        return True
