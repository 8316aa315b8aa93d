"""Several models on one engine thread: whose turn it is, and the end of one of them."""

from __future__ import annotations

import asyncio
import itertools
import threading

from mlxdeck.server.backends.local.engine.api import Reads, Step
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.backends.local.scheduler.shared_thread import SharedThread
from tests.server.backends.local.scheduler.test_scheduler import answer, job
from tests.server.http import until

LONG = " ".join(map(str, range(200)))


class Noting(EchoEngine):
    """Notes each step that has something to do, and on which thread."""

    def __init__(self, name: str, steps: list[str]) -> None:
        super().__init__(name=name, step_s=0.0005)
        self._steps = steps
        self.threads: set[int] = set()

    def step(self, reads: Reads = None) -> list[Step]:
        """As ever."""
        self._steps.append(self._name)
        self.threads.add(threading.get_ident())
        return super().step(reads)


def scheduler(engine: EchoEngine, thread: SharedThread) -> Scheduler:
    """One of several on a thread, started."""
    made = Scheduler(
        engine,
        thread,
        max_batch=4,
        max_waiting=8,
        prefill_chunk_tokens=64,
        step_budget_tokens=64,
        ping_s=5.0,
        stall_s=60,
    )
    made.start(lambda _: None, lambda _: None)
    return made


async def test_they_take_turns() -> None:
    """While two models write, neither has two steps in a row; both on the one thread."""
    thread, steps = SharedThread(), list[str]()
    engines = [Noting("a", steps), Noting("b", steps)]
    both = [scheduler(engine, thread) for engine in engines]
    await asyncio.gather(*(each.ready for each in both))
    found = await asyncio.gather(*(answer(each, job(LONG, max_tokens=300)) for each in both))
    assert found == [(LONG[:300], "length")] * 2
    begun = max(map(steps.index, "ab"))
    shared = steps[begun : len(steps) - max(steps[::-1].index(name) for name in "ab")]
    assert len(shared) > 300
    assert all(one != other for one, other in itertools.pairwise(shared))
    (ident,) = engines[0].threads | engines[1].threads
    assert ident != threading.get_ident()
    for each in both:
        await each.stop()


async def test_one_that_stops_leaves_the_other_running() -> None:
    """The thread lives as long as anybody is on it, and begins anew for who comes later."""
    thread, steps = SharedThread(), list[str]()
    one, other = (scheduler(Noting(name, steps), thread) for name in "ab")
    await asyncio.gather(one.ready, other.ready)
    await one.stop()
    assert await answer(other, job("still here")) == ("still here", "stop")
    await other.stop()
    await until(lambda: not thread.alive)
    late = scheduler(Noting("c", steps), thread)
    await late.ready
    assert await answer(late, job("late")) == ("late", "stop")
    await late.stop()


async def test_one_that_cannot_be_loaded_leaves_the_other_running() -> None:
    """Whatever is raised is its own error."""
    thread, steps = SharedThread(), list[str]()
    broken = Noting("a", steps)
    broken.load = lambda _: 1 // 0  # type: ignore[method-assign, assignment, return-value]
    one, other = scheduler(broken, thread), scheduler(Noting("b", steps), thread)
    found = await asyncio.gather(one.ready, other.ready, return_exceptions=True)
    assert "division" in str(found[0]) and found[1] is None
    assert await answer(other, job("fine")) == ("fine", "stop")
    await one.stop()
    await other.stop()
