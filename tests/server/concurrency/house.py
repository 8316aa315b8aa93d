"""A server without its sockets, made so that its threads meet at awkward moments.

The engine echoes, and fails when it is told to. Every state that lives is counted, wherever it is
held. Disk, prompt thread and engine pause at random where another thread may come
between.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.api import (
    KVState,
    PackedPart,
    Reads,
    State,
    StateDamaged,
    StatePart,
    Step,
)
from mlxdeck.server.backends.local.engine.echo import EchoEngine, EchoStates
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.service import Service
from mlxdeck.telemetry.write.writer import MemoryWriter

STATE_BYTES = 8
"""What `EchoStates` says of a token."""
LIMITS = {
    "prefix_cache_bytes": STATE_BYTES * 2_000,
    "exact_cache_entries": 4,
    "disk_cache_bytes": 400_000,
    "unload_after_s": 0.0001,
    "max_batch": 4,
    "max_waiting": 12,
}
"""So small that entries are given up in every tier, and a crowd is refused."""
MAX_PAUSE_S = 0.003


class Pauses:
    """Where threads stop for a moment, at random; only ever a small part of the time."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._lock = threading.Lock()
        self.is_on = True

    def __call__(self, share: float = 0.3) -> None:
        with self._lock:
            pauses, length_s = self._random.random() < share, self._random.random() * MAX_PAUSE_S
        if pauses and self.is_on:
            time.sleep(length_s)

    def happens(self, share: float) -> bool:
        """Whether something that happens at random happens now."""
        with self._lock:
            return self.is_on and self._random.random() < share


class Living:
    """Bytes of all states that anybody holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.n_bytes = 0

    def add(self, n_bytes: int) -> None:
        with self._lock:
            self.n_bytes += n_bytes


class Counted(tuple[int, ...]):
    """A state that is counted while it lives."""

    living: Living

    @staticmethod
    def of(state: State, living: Living) -> Counted:
        """The same tokens, counted from now on."""
        counted = Counted(state)
        counted.living = living
        living.add(STATE_BYTES * len(counted))
        return counted

    def __del__(self) -> None:
        self.living.add(-STATE_BYTES * len(self))


class CountedStates(EchoStates):
    """States of the echo engine that are slow to lease, to write and to read, or fail."""

    def __init__(self, pauses: Pauses) -> None:
        self.living = Living()
        self.leasing = self.loading = False
        """Whether a thread is at it, so that somebody may leave just then."""
        self._pauses = pauses

    def block(self, state: State, start: int, end: int) -> StatePart:
        """Counted as long as anybody holds it."""
        self._pauses(0.3)
        return Counted.of(state[start:end], self.living)

    def cut(self, block: StatePart, n_tokens: int) -> StatePart:
        """The same."""
        self._pauses(0.7)
        return Counted.of(block[:n_tokens], self.living)

    def lease(
        self, blocks: Sequence[StatePart], n_tokens: int, checkpoint: StatePart | None
    ) -> State:
        """Long enough for a client to leave meanwhile."""
        self.leasing = True
        self._pauses(0.7)
        self.leasing = False
        return Counted.of(super().lease(blocks, n_tokens, checkpoint), self.living)

    def pack(self, part: StatePart) -> PackedPart:
        """Sometimes the disk is full."""
        self._pauses(0.5)
        if self._pauses.happens(0.05):
            raise OSError(28, "No space left on device")
        return super().pack(part)

    def restore(self, about: str, data: Any) -> StatePart:
        """Sometimes the file held none."""
        self.loading = True
        self._pauses(0.9)
        self.loading = False
        if self._pauses.happens(0.05):
            raise StateDamaged("a planted file holds no state")
        return Counted.of(super().restore(about, data), self.living)


class CountedEngine(EchoEngine):
    """Says the last turn again, with paused steps; the next one fails if it is told to."""

    states: CountedStates

    def __init__(self, pauses: Pauses) -> None:
        super().__init__(prefill_chunk_tokens=256)
        self.states = CountedStates(pauses)
        self._pauses = pauses
        self.fails_next = self.fails_to_load = False
        self.goes_on = threading.Event()
        self.goes_on.set()

    def step(self, reads: Reads = None) -> list[Step]:
        """Wait until it may go on; fail once, where that was asked for."""
        self.goes_on.wait(10)
        self._pauses(0.2)
        if self.fails_next:
            self.fails_next = False
            raise RuntimeError("a planted fault of the device")
        return super().step(reads)

    def unload(self) -> None:
        """Take a moment, in which somebody may come."""
        self._pauses(0.5)
        super().unload()

    def reload(self) -> Generator[None]:
        """In steps; fail once, where that was asked for."""
        for _ in range(2):
            self._pauses(0.5)
            yield
        if self.fails_to_load:
            self.fails_to_load = False
            raise RuntimeError("a planted fault of the model's files")
        yield from super().reload()

    def remove(self, uid: int) -> KVState | None:
        """With a state that is counted."""
        kept = super().remove(uid)
        return kept and KVState(kept.tokens, Counted.of(kept.state, self.states.living))


class House:
    """One home, and the servers that live there one after another."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self.pauses = Pauses(seed)
        self.telemetry = MemoryWriter()

    async def open(self) -> None:
        """Start a server."""
        settings = Settings(home=self.home, engine="echo", ping_s=0.05, **LIMITS)  # type: ignore[arg-type]
        self.engine = CountedEngine(self.pauses)
        self.backend = LocalBackend(settings, self.engine)
        self.service = Service(settings, self.backend, lambda _: self.telemetry)
        await self.service.start(lambda _: None)
        await self.service.ready()

    async def close(self) -> None:
        """Stop it, which writes what waits."""
        await self.service.stop()

    @contextmanager
    def pausing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Let the disk's threads pause before and behind what they do."""
        guarded = DiskIO._guarded
        pauses = self.pauses

        def slowly(self: DiskIO, work: object, default: object) -> object:
            pauses(0.3)
            result = guarded(self, work, default)  # type: ignore[arg-type]
            pauses(0.3)
            return result

        with monkeypatch.context() as patched:
            patched.setattr(DiskIO, "_guarded", slowly)
            yield


class Errors(logging.Handler):
    """What is logged as an error, but for what was planted."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it with the last line of the exception it tells of."""
        text = f"{record.getMessage()}: {(record.exc_text or '').splitlines()[-1:]}"
        if "planted" not in text:
            self.texts.append(text)


@contextmanager
def logged_as_text() -> Iterator[None]:
    """Have log records tell of exceptions without holding them: pytest keeps every record."""
    make = logging.getLogRecordFactory()

    def record(*args: Any, **named: Any) -> logging.LogRecord:
        made = make(*args, **named)
        if made.exc_info:
            made.exc_text = "".join(traceback.format_exception(*made.exc_info))
            made.exc_info = None
        made.msg, made.args = made.getMessage(), ()
        return made

    logging.setLogRecordFactory(record)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)
