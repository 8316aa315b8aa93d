"""Work on other threads, which ends soon after whoever asked for it has left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


class Abandoned(Exception):
    """Whoever asked has left. Ends work at a checkpoint; nobody is there to see it."""


_given_up: ContextVar[threading.Event | None] = ContextVar("given up", default=None)


def checkpoint() -> None:
    """Go on, unless nobody waits any more.

    Raises:
        Abandoned: Nobody does.
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


class Workers:
    """Work for a pool of threads, which is given up with whoever asked for it. Event loop."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    async def run(self, work: Callable[[], T]) -> T:
        """Have some work done. Cancelled, it isn't begun, or ends at its next checkpoint."""
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, run_until, given_up, work)
        except asyncio.CancelledError:
            given_up.set()
            raise
