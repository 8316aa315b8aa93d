"""Identical requests that run at the same time share one generation.

Each has its own stream of all events, no matter when it joins. The generation continues as long as
one of them remains. When the last one leaves, nobody can join any more: a later request starts a
new generation. Used from the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace

from mlxdeck.server.chat import Event, Finished, Started
from mlxdeck.server.errors import EngineFailed, ServerError
from mlxdeck.server.joined_events import JoinedEvents
from mlxdeck.server.request_facts import Fact, StreamItem
from mlxdeck.server.turns import LoopTurns

Publish = Callable[[StreamItem], None]
Produce = Callable[[Publish], Awaitable[None]]
"""Makes an answer, and publishes each of its events as it comes."""

AT_ONCE = 256
"""Events that all followers have seen are joined so many at a time. Freeing those of a long answer
at its end would hold up the event loop."""


@dataclass(eq=False, slots=True)
class _Follower:
    n_seen: int
    """Events, from the first one on."""


class Flight:
    """One generation and those who follow it."""

    def __init__(self, produce: Produce, closed: Callable[[Flight], None]) -> None:
        """`closed` is called once nobody may join any more, perhaps more than once."""
        self._events: list[StreamItem] = []
        """Those that were not seen by all, or not long ago."""
        self._past, self._n_past = JoinedEvents(), 0
        """Those before them, for who joins late."""
        self._started: Started | None = None
        self._followers: list[_Follower] = []
        self._changed = asyncio.Event()
        self._closed = closed
        self._task = asyncio.create_task(self._run(produce))
        # Also if it is cancelled before its first step, when nothing of `_run` is run.
        self._task.add_done_callback(self._landed)

    async def _run(self, produce: Produce) -> None:
        await produce(self._publish)

    def _publish(self, event: StreamItem) -> None:
        self._events.append(event)
        if len(self._events) % AT_ONCE == 0:
            self._join()
        self._notify()

    def _join(self) -> None:
        n_seen = min((each.n_seen for each in self._followers), default=0)
        n_joined = max(0, n_seen - self._n_past)
        for event in self._events[:n_joined]:
            if isinstance(event, Started):
                self._started = event
            elif not isinstance(event, Fact):
                self._past.add(event)
        del self._events[:n_joined]
        self._n_past += n_joined

    def _landed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            # Followers receive the exception; without followers, nobody needs it.
            task.exception()
        self._closed(self)
        self._notify()

    def _notify(self) -> None:
        # Waiting followers have the old event; a set Event can't be waited for again.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self, *, joined: bool = False) -> AsyncGenerator[StreamItem]:
        """Every event from the first on; when the last follower leaves, the generation ends.

        `joined` is for a request that came later. For that one every prompt token was known, and
        the facts of the first request don't apply.

        Raises:
            ServerError: The generation failed; every follower gets the same error.
        """
        past = [self._started, *self._past.events] if self._started else []
        follower = _Follower(self._n_past)
        self._followers.append(follower)
        turns = LoopTurns()
        try:
            for event in past:
                yield _as_known(event)
                await turns.take()
            while True:
                while (n_seen := follower.n_seen - self._n_past) < len(self._events):
                    item = self._events[n_seen]
                    follower.n_seen += 1
                    if not joined:
                        yield item
                    elif not isinstance(item, Fact):
                        yield _as_known(item)
                if self._task.done():
                    self._raise_failure()
                    return
                await self._changed.wait()
        finally:
            self._followers.remove(follower)
            if not self._followers:
                # Before it is cancelled: nobody may join a flight that is ending.
                self._closed(self)
                self._task.cancel()

    def _raise_failure(self) -> None:
        if self._task.cancelled():
            # Not by its followers: this one is there. So the server is stopping.
            raise EngineFailed("the generation was stopped")
        error = self._task.exception()
        if isinstance(error, ServerError):
            # Each time without the frames of those who raised it before.
            raise error.with_traceback(None)
        if error is not None:
            raise RuntimeError("a shared generation failed") from error


def _as_known(event: Event) -> Event:
    match event:
        case Started(usage):
            return Started(replace(usage.known(), output_tokens=0), cache="hit")
        case Finished(usage=usage):
            return replace(event, usage=usage.known())
        case _:
            return event


class SingleFlight:
    """Running generations, by the key of their answer."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, key: str) -> Flight | None:
        """The generation of this answer, if one is running that may be joined."""
        return self._flights.get(key)

    def start(self, key: str, produce: Produce) -> Flight:
        """Start a generation that others may join from now on."""
        flight = self._flights[key] = Flight(produce, lambda closed: self._close(key, closed))
        return flight

    def _close(self, key: str, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
