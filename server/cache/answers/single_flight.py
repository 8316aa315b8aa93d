"""Identical requests that are under way at the same time share one generation.

Each has its own stream, from the first event on, however late it joins; the generation goes on as
long as one of them is there. Used from the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from mlxdeck.server.chat import Event, Finished, Started, Usage


class Flight:
    """One generation and those who follow it."""

    def __init__(self, source: AsyncGenerator[Event], landed: Callable[[], None]) -> None:
        self._events: list[Event] = []
        self._over = False
        self._n_followers = 0
        self._changed = asyncio.Event()
        self._landed = landed
        self._task = asyncio.create_task(self._run(source))
        # Whoever follows is told of a failure; when nobody does any more, nobody has to be.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _run(self, source: AsyncGenerator[Event]) -> None:
        try:
            async for event in source:
                self._events.append(event)
                self._notify()
        finally:
            await source.aclose()
            self._over = True
            self._landed()
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
                if self._over:
                    await asyncio.shield(self._task)
                    return
                await self._changed.wait()
        finally:
            self._n_followers -= 1
            if not self._n_followers:
                self._task.cancel()

    async def join(self) -> AsyncGenerator[Event]:
        """`follow`, for a request that came later: to it, every prompt token was known."""
        async for event in self.follow():
            match event:
                case Started(usage):
                    yield Started(Usage(usage.input_tokens, usage.input_tokens), cache="hit")
                case Finished(usage=usage):
                    known = Usage(usage.input_tokens, usage.input_tokens, usage.output_tokens)
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
        """The generation of this answer, if one is under way."""
        return self._flights.get(key)

    def start(self, key: str, source: AsyncGenerator[Event]) -> Flight:
        """Begin a generation that others may join from now on."""
        flight = self._flights[key] = Flight(source, lambda: self._land(key, flight))
        return flight

    def _land(self, key: str, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
