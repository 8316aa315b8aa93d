"""Work on other threads that ends soon after its client has left."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Abandoned(Exception):
    """The client has left. Ends work at a checkpoint; no other code sees it."""


_given_up: ContextVar[threading.Event | None] = ContextVar("given up", default=None)


def checkpoint() -> None:
    """Continue, unless the client has left.

    Raises:
        Abandoned: It has.
    """
    event = _given_up.get()
    if event is not None and event.is_set():
        raise Abandoned


def run_until(given_up: threading.Event, work: Callable[[], T]) -> T:
    """Do some work that ends at its next checkpoint once the event is set.

    Raises:
        Abandoned: That came first.
    """
    token = _given_up.set(given_up)
    try:
        checkpoint()
        return work()
    finally:
        _given_up.reset(token)


class _Collector:
    """Pauses the garbage collector.

    A full pass stops every thread: a fifth of a second after a long body became half a million
    objects. These objects are freed without the collector.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_pauses = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it wait until the last of those who want that is through."""
        with self._lock:
            self._n_pauses += 1
            gc.disable()
        try:
            yield
        finally:
            with self._lock:
                self._n_pauses -= 1
                if not self._n_pauses:
                    gc.enable()


collector = _Collector()


class Workers:
    """Work for a pool of threads, abandoned when its client leaves. Event loop."""

    def __init__(self, pool: Executor, *, long: bool = False) -> None:
        """What is `long` makes many objects, which the garbage collector is to leave alone."""
        self.pool = pool
        self._long = long

    async def run(self, work: Callable[[], T]) -> T:
        """Have some work done. Cancelled, it isn't begun, or ends at its next checkpoint."""
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.pool, self._done, given_up, work)
        except asyncio.CancelledError:
            given_up.set()
            raise

    def _done(self, given_up: threading.Event, work: Callable[[], T]) -> T:
        with collector.paused() if self._long else nullcontext():
            return run_until(given_up, work)


@dataclass(frozen=True, slots=True)
class Lanes:
    """Threads for work that holds up the event loop: for some milliseconds, and for longer.

    What is shorter doesn't wait for what is longer.
    """

    medium: Workers
    long: Workers
