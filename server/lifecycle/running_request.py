"""One request that runs: its names, and how it is ended from outside. For the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from mlxdeck.server.errors import DeadlinePassed, ServerError

Cut = Callable[[], ServerError]
"""Makes the error that ends a request from outside."""


class RunningRequest:
    """From its head to the end of its answer."""

    def __init__(
        self, request_id: str, *, client_id: str = "", owner: str = "", path: str = ""
    ) -> None:
        self.request_id = request_id
        self.client_id = client_id
        """The client's own name of it; empty if it has none. Several requests may share one."""
        self.owner = owner
        """Whose it is; the same for all clients if the server has no keys."""
        self.path = path
        self.model = ""
        self.phase = "decode"
        """As telemetry calls it."""
        self.progress: Callable[[], dict[str, Any]] = dict
        """Its state, since when, and its tokens, as far as that is known."""
        self._began_s = time.monotonic()
        self._cut: Cut | None = None
        self._waits: set[asyncio.Timeout] = set()

    @property
    def age_s(self) -> float:
        """Seconds since its head was there."""
        return time.monotonic() - self._began_s

    @asynccontextmanager
    async def cut_short(self) -> AsyncIterator[None]:
        """A part of it that may wait for long, and ends when the request is to end.

        Raises:
            Cancelled: Somebody has cancelled it.
            Stopping: The server stops, and the time is over.
            DeadlinePassed: It takes too long.
        """
        if self._cut is not None:
            raise self._cut()
        wait = asyncio.timeout(None)
        try:
            async with wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if wait.expired() and self._cut is not None:
                raise self._cut() from None
            raise

    @contextmanager
    def limited(self, limit_s: float) -> Iterator[None]:
        """All of it that may take so long at most; 0 for any time."""
        if not limit_s:
            yield
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(limit_s, self.cut, partial(DeadlinePassed, limit_s))
        try:
            yield
        finally:
            timer.cancel()

    def cut(self, error: Cut) -> None:
        """End it with this error, now or where it next waits; only the first call does anything."""
        if self._cut is not None:
            # What is already being ended can't be told again.
            return
        self._cut = error
        now_s = asyncio.get_running_loop().time()
        for wait in self._waits:
            wait.reschedule(now_s)
