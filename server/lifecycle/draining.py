"""The running requests, and how they end when the server stops.

First they get time to finish, while new requests are refused. Then they are cut short: their
current await raises `Stopping`, so that each still informs its client and its trace. For the event
loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from mlxdeck.server.errors import Stopping


class Drain:
    """One server's running requests."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether no more requests are taken."""
        self.n_running = 0
        self._is_cut = False
        self._waits: set[asyncio.Timeout] = set()
        self._ended = asyncio.Event()

    def check(self) -> None:
        """Send away who comes too late.

        Raises:
            Stopping: The server is about to end.
        """
        if self.stopping:
            raise Stopping

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request that is waited for until the block is left.

        Raises:
            Stopping: It comes too late.
        """
        self.check()
        self.n_running += 1
        try:
            yield
        finally:
            self.n_running -= 1
            self._ended.set()

    @asynccontextmanager
    async def cut_short(self) -> AsyncIterator[None]:
        """A part of a request that may wait for long, and ends when the time is over.

        Raises:
            Stopping: It is.
        """
        if self._is_cut:
            raise Stopping
        wait = asyncio.timeout(None)
        try:
            async with wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if wait.expired():
                raise Stopping from None
            raise

    async def empty(self) -> None:
        """Wait until no request runs."""
        while self.n_running:
            self._ended.clear()
            await self._ended.wait()

    def cut(self) -> None:
        """The time is over."""
        self.stopping = self._is_cut = True
        now_s = asyncio.get_running_loop().time()
        for wait in self._waits:
            wait.reschedule(now_s)
