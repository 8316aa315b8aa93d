"""One generation for several that ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from mlxdeck.server.cache.answers.single_flight import Publish, SingleFlight
from mlxdeck.server.chat import Finished, Started, TextDelta, Usage
from mlxdeck.server.errors import EngineFailed
from mlxdeck.server.request_facts import LookedUp, StreamItem

USAGE = Usage(10, 4, 3)
FOUND = LookedUp("exact")


class Source:
    """A generation that can be held and watched."""

    def __init__(self, fail: bool = False, slow_to_end: bool = False) -> None:
        self.go = asyncio.Event()
        self.end = asyncio.Event()
        self.fail = fail
        self.slow_to_end = slow_to_end
        self.closed = False

    async def events(self, publish: Publish) -> None:
        """Three deltas, the last one only after `go`."""
        try:
            publish(FOUND)
            publish(Started(USAGE))
            publish(TextDelta("a"))
            publish(TextDelta("b"))
            await self.go.wait()
            if self.fail:
                raise EngineFailed("boom")
            publish(TextDelta("c"))
            publish(Finished("end_turn", USAGE))
        finally:
            if self.slow_to_end:
                await self.end.wait()
            self.closed = True


async def text(events: AsyncGenerator[StreamItem]) -> str:
    """All text of a stream, to its end."""
    return "".join([event.text async for event in events if isinstance(event, TextDelta)])


async def test_a_late_follower_gets_everything() -> None:
    """From the first event on, and it reads as known to whoever joined."""
    source, flights = Source(), SingleFlight()
    leader = asyncio.create_task(text(flights.start("k", source.events).follow()))
    await asyncio.sleep(0.01)
    flight = flights.get("k")
    assert flight is not None
    joined = asyncio.create_task(text(flight.follow(joined=True)))
    await asyncio.sleep(0.01)
    source.go.set()
    assert await leader == await joined == "abc"
    assert len(flights) == 0 and source.closed


async def test_who_joins_has_every_token_cached() -> None:
    """Usage and the cache mark are those of a hit."""
    source, flights = Source(), SingleFlight()
    source.go.set()
    flight = flights.start("k", source.events)
    events = [event async for event in flight.follow(joined=True)]
    assert events[0] == Started(Usage(10, 10), cache="hit")
    assert events[-1] == Finished("end_turn", Usage(10, 10, 3))


async def test_one_that_leaves_does_not_end_it_for_the_others() -> None:
    """Also the first one; the last one to leave ends the generation."""
    source, flights = Source(), SingleFlight()
    flight = flights.start("k", source.events)
    first, second = flight.follow(), flight.follow(joined=True)
    assert await anext(first) and await anext(second)
    await first.aclose()
    await asyncio.sleep(0.01)
    assert not source.closed
    await second.aclose()
    await asyncio.sleep(0.01)
    assert source.closed and len(flights) == 0


async def test_what_is_dying_is_not_joined() -> None:
    """As the last one leaves, the key is free, however long the generation takes to end."""
    dying, flights = Source(slow_to_end=True), SingleFlight()
    last = flights.start("k", dying.events).follow()
    assert await anext(last)
    await last.aclose()
    assert flights.get("k") is None and not dying.closed
    again = Source()
    again.go.set()
    assert await text(flights.start("k", again.events).follow()) == "abc"
    dying.end.set()
    await asyncio.sleep(0.01)
    assert dying.closed and len(flights) == 0


async def test_a_generation_that_never_began_frees_its_key() -> None:
    """Its only follower left at once: nothing of it has run, and others don't wait for it."""
    source, flights = Source(), SingleFlight()
    leader = asyncio.create_task(text(flights.start("k", source.events).follow()))
    # One step: the follower waits, the generation has not had its turn.
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    await asyncio.sleep(0.01)
    assert len(flights) == 0


async def test_a_generation_that_is_stopped_is_an_error_to_its_followers() -> None:
    """Not a cancellation, which would read as if they had left."""
    source, flights = Source(), SingleFlight()
    flight = flights.start("k", source.events)
    follower = asyncio.create_task(text(flight.follow(joined=True)))
    await asyncio.sleep(0.01)
    flight._task.cancel()
    with pytest.raises(EngineFailed, match="stopped"):
        await follower


async def test_an_error_stays_as_long_as_it_was() -> None:
    """However many are told of it: none adds the frames of another."""
    source, flights = Source(fail=True), SingleFlight()
    flight = flights.start("k", source.events)
    source.go.set()
    lengths = set()
    for _ in range(5):
        with pytest.raises(EngineFailed) as caught:
            await text(flight.follow(joined=True))
        lengths.add(len(caught.traceback))
    assert len(lengths) == 1


async def test_a_failure_reaches_everyone() -> None:
    """Each follower gets the error, after what came before it."""
    source, flights = Source(fail=True), SingleFlight()
    flight = flights.start("k", source.events)
    followers = [asyncio.create_task(text(flight.follow())) for _ in range(3)]
    await asyncio.sleep(0.01)
    source.go.set()
    for follower in followers:
        with pytest.raises(EngineFailed, match="boom"):
            await follower
    assert len(flights) == 0


async def test_what_happened_to_the_first_is_told_to_the_first_alone() -> None:
    """Facts are of one request; who joins has its own."""
    source, flights = Source(), SingleFlight()
    source.go.set()
    flight = flights.start("k", source.events)
    first = [event async for event in flight.follow()]
    assert FOUND in first
    assert FOUND not in [event async for event in flight.follow(joined=True)]
