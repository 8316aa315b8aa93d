"""Identical requests that are under way at the same time share one generation.

Each has its own stream, from the first event on, however late it joins. The generation goes on as
long as one of them is there. When the last one leaves, the generation can't be joined any more:
whoever asks then starts a new one. Used from the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from mlxdeck.server.chat import Event, Finished, Started, Usage
from mlxdeck.server.errors import EngineFailed, ServerError


class Flight:
    """One generation and those who follow it."""

    def __init__(self, source: AsyncGenerator[Event], closed: Callable[[Flight], None]) -> None:
        """`closed` is called once nobody may join any more, perhaps more than once."""
        self._events: list[Event] = []
        self._n_followers = 0
        self._changed = asyncio.Event()
        self._closed = closed
        self._task = asyncio.create_task(self._run(source))
        # Also if it is cancelled before its first step, when nothing of `_run` is run.
        self._task.add_done_callback(self._landed)

    async def _run(self, source: AsyncGenerator[Event]) -> None:
        async with aclosing(source) as events:
            async for event in events:
                self._events.append(event)
                self._notify()

    def _landed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            # Whoever follows is told; when nobody does any more, nobody has to be.
            task.exception()
        self._closed(self)
        self._notify()

    def _notify(self) -> None:
        # Whoever waits has the old one; an Event that is set can't be waited for again.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self) -> AsyncGenerator[Event]:
        """Every event from the first on; leaving as the last one ends the generation.

        Raises:
            ServerError: The generation failed; everyone gets the same.
        """
        self._n_followers += 1
        n_seen = 0
        try:
            while True:
                while n_seen < len(self._events):
                    n_seen += 1
                    yield self._events[n_seen - 1]
                if self._task.done():
                    self._raise_failure()
                    return
                await self._changed.wait()
        finally:
            self._n_followers -= 1
            if not self._n_followers:
                # Before it is cancelled: what is dying must not be joined.
                self._closed(self)
                self._task.cancel()

    def _raise_failure(self) -> None:
        if self._task.cancelled():
            # Not by its followers: this one is there. So the server is being stopped.
            raise EngineFailed("the generation was stopped")
        error = self._task.exception()
        if isinstance(error, ServerError):
            # Each time without the frames of those who raised it before.
            raise error.with_traceback(None)
        if error is not None:
            raise RuntimeError("a shared generation failed") from error

    async def join(self) -> AsyncGenerator[Event]:
        """`follow`, for a request that came later: to it, every prompt token was known."""
        async with aclosing(self.follow()) as events:
            async for event in events:
                match event:
                    case Started(usage):
                        yield Started(Usage(usage.input_tokens, usage.input_tokens), cache="hit")
                    case Finished(usage=usage):
                        n_tokens = usage.input_tokens
                        known = Usage(n_tokens, n_tokens, usage.output_tokens)
                        yield replace(event, usage=known)
                    case _:
                        yield event


class SingleFlight:
    """What is being generated, by the key of its answer."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, key: str) -> Flight | None:
        """The generation of this answer, if one is under way that may be joined."""
        return self._flights.get(key)

    def start(self, key: str, source: AsyncGenerator[Event]) -> Flight:
        """Begin a generation that others may join from now on."""
        flight = self._flights[key] = Flight(source, lambda closed: self._close(key, closed))
        return flight

    def _close(self, key: str, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
