"""Whatever is raised on the engine thread, wherever: it costs what it has to, and is told once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import KVState
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.scheduler import engine_thread
from mlxdeck.server.backends.local.scheduler.loop_guard import LoopGuard
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.errors import EngineFailed
from tests.server.backends.local.faults import KINDS, Plan, faulty, says_no_numbers
from tests.server.backends.local.scheduler.test_scheduler import answer, job
from tests.server.http import until

STALL_S = 0.2


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebuild without pauses."""
    monkeypatch.setattr(engine_thread, "REBUILD_AFTER_S", (0.0, 0.0, 0.0))


@asynccontextmanager
async def failing(stall_s: float = 60.0, **more: Any) -> AsyncIterator[tuple[Scheduler, Plan]]:
    """A loaded scheduler whose engine fails as planned; nothing is left of what it was given."""
    engine, plan = faulty(EchoEngine(step_s=0.001, **more))
    scheduler = Scheduler(
        engine, max_batch=2, max_waiting=8, prefill_chunk_tokens=64, ping_s=5, stall_s=stall_s
    )
    scheduler.start(lambda _: None, lambda _: None)
    await scheduler.ready
    try:
        yield scheduler, plan
        await until(lambda: is_empty(scheduler), 5)
        # Also what an insert has left there which failed half-way.
        await until(lambda: scheduler._failure or not engine._running, 5)
    finally:
        plan.disarm()
        await scheduler.stop()
        await until(lambda: not scheduler.alive, 5)


def is_empty(scheduler: Scheduler) -> bool:
    """Whether nothing is held anywhere."""
    worker = scheduler._worker
    held = (worker.running, worker._waiting, worker._open, worker._looping)
    return not any((*held, scheduler._open, scheduler._commands)) and worker.inbox.empty()


async def outcomes(scheduler: Scheduler, *jobs: Any) -> list[Any]:
    """What comes of jobs that are submitted together."""
    asked = [asyncio.create_task(answer(scheduler, each)) for each in jobs]
    return list(await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10))


def told(results: list[Any]) -> list[str]:
    """The messages of the failures among some outcomes; nothing else may have been raised."""
    failures = [each for each in results if not isinstance(each, tuple)]
    assert all(type(each) is EngineFailed for each in failures), failures
    return [each.message for each in failures]


@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_insert_fails_that_one(kind: str, late: bool) -> None:
    """The others go on, also if the engine has taken it all the same."""
    async with failing() as (scheduler, plan):
        plan.arm("insert", kind, late=late, n_before=1)
        # The second is long: what was left of it would still be there when the others are done.
        texts = ["text 0", "text 1" * 50, "text 2", "text 3"]
        results = await outcomes(scheduler, *map(job, texts))
        assert len(told(results)) == 1
        assert "injected" in told(results)[0]
        assert {each for each in results if isinstance(each, tuple)} == {
            (f"text {n}", "stop") for n in (0, 2, 3)
        }
        assert scheduler.n_rebuilds == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_an_idle_engine_keeps_nothing_of_a_failed_insert(kind: str) -> None:
    """Also if nobody comes behind it."""
    async with failing() as (scheduler, plan):
        plan.arm("insert", kind, late=True)
        assert "injected" in told(await outcomes(scheduler, job("alone" * 100)))[0]
        assert scheduler.n_rebuilds == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_before", [0, 5])
async def test_a_failed_step_fails_what_runs_and_nothing_else(kind: str, n_before: int) -> None:
    """Those that wait are run by the engine that is rebuilt."""
    async with failing() as (scheduler, plan):
        plan.arm("step", kind, n_before=n_before)
        results = await outcomes(scheduler, *(job(f"some text {n}") for n in range(5)))
        assert len(told(results)) == 2
        assert len(set(map(id, results))) == 5
        assert [each for each in results if isinstance(each, tuple)] == [
            (f"some text {n}", "stop") for n in (2, 3, 4)
        ]
        await until(lambda: scheduler.n_rebuilds == 1 and scheduler.healthy)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_removal_costs_as_much_as_a_step(kind: str) -> None:
    """Whoever leaves may not leave the engine behind as it is."""
    async with failing() as (scheduler, plan):
        plan.arm("remove", kind)
        beside = asyncio.create_task(answer(scheduler, job("b" * 2_000, max_tokens=9_999)))
        async with scheduler.submit(job("a" * 2_000, max_tokens=9_999)) as chunks:
            await until(lambda: scheduler.status.active == 2)
            await anext(chunks)
        with pytest.raises(EngineFailed, match="injected"):
            await beside
        await until(lambda: scheduler.healthy)
        assert await answer(scheduler, job("again")) == ("again", "stop")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_loop_that_cant_be_cut_has_one_end(kind: str) -> None:
    """It was told its end before; what runs beside it pays for the fault."""
    async with failing(reply=lambda _: "na " * 500) as (scheduler, plan):
        plan.arm("remove", kind)
        looping, beside = job("a", max_tokens=1_000), job("b", max_tokens=1_000)
        looping.guard = LoopGuard()
        results = await outcomes(scheduler, looping, beside)
        assert results[0][1] == "loop" and looping.chunks.empty()
        assert len(told(results[1:])) == 1
        await until(lambda: scheduler.n_rebuilds == 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_state_that_cant_be_kept_costs_that_state(kind: str) -> None:
    """Its answer is whole; so is that of whoever leaves."""

    def fail(_: KVState) -> None:
        raise KINDS[kind]()

    async with failing() as (scheduler, _):
        work, other = job("hello"), job("x" * 200)
        work.keep = other.keep = fail
        assert await answer(scheduler, work) == ("hello", "stop")
        async with scheduler.submit(other) as chunks:
            await anext(chunks)
        await until(lambda: scheduler.n_lost_states == 2)
        assert scheduler.n_rebuilds == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_command_fails_whoever_asked_for_it(kind: str) -> None:
    """Jobs beside it go on; the next command is carried out."""

    def fail() -> None:
        raise KINDS[kind]()

    done: list[int] = []
    async with failing() as (scheduler, _):
        beside = asyncio.create_task(answer(scheduler, job("beside")))
        with pytest.raises(EngineFailed, match="injected"):
            await scheduler.run(fail)
        await scheduler.run(lambda: done.append(1))
        assert done == [1]
        assert await beside == ("beside", "stop")


async def test_logits_that_are_no_numbers_end_their_sequence_alone() -> None:
    """With one clear error; those of its batch go on."""
    async with failing() as (scheduler, _):
        engine: Any = scheduler._worker._engine
        says_no_numbers(engine._target, ord("~") + 1)
        results = await outcomes(scheduler, job("good"), job("bad ~"), job("well"))
        assert told(results) == ["the model failed: the model's logits are no numbers"]
        assert [results[0], results[2]] == [("good", "stop"), ("well", "stop")]
        assert scheduler.n_rebuilds == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_figures_of_memory_cost_nothing(kind: str) -> None:
    """If they can't be had, the last ones stay."""
    async with failing() as (scheduler, plan):
        plan.arm("memory", kind, n_times=3)
        assert await answer(scheduler, job("hello")) == ("hello", "stop")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("site", ["reset", "insert", "step"])
async def test_an_engine_that_cant_be_rebuilt_is_lost_and_everyone_is_told(
    site: str, kind: str
) -> None:
    """Each once: running, waiting, in the inbox, and whoever comes later."""
    async with failing() as (scheduler, plan):
        running = [asyncio.create_task(answer(scheduler, job("a" * 500))) for _ in range(5)]
        await until(lambda: scheduler.status.active == 2)
        scheduler._worker._engine = plan_step_once(scheduler, plan, site, kind)
        results = await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), 10)
        assert len(told(list(results))) == 5
        assert len(set(map(id, results))) == 5
        assert "injected" in await asyncio.wait_for(scheduler.lost, 5)
        assert scheduler.health.state == "unhealthy"
        for _ in range(2):
            with pytest.raises(EngineFailed, match="injected"):
                await answer(scheduler, job("late"))
            with pytest.raises(EngineFailed, match="injected"):
                await scheduler.run(lambda: None)


def plan_step_once(scheduler: Scheduler, plan: Plan, site: str, kind: str) -> Any:
    """The engine, whose next step fails, and then whatever would mend it."""
    engine = scheduler._worker._engine

    class Breaks:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def step(self, reads: Any = None) -> Any:
            plan.arm(site, kind, n_times=1 << 30)
            scheduler._worker._engine = engine
            raise KINDS[kind]()

    return Breaks()


async def test_errors_that_are_told_again_and_again_do_not_grow() -> None:
    """A dead engine makes a new exception for everyone: a thousand hold as many frames as one."""
    async with failing() as (scheduler, plan):
        plan.arm("step", n_times=1 << 30)
        await outcomes(scheduler, job("the last"))
        await asyncio.wait_for(scheduler.lost, 5)
        depths, seen = set(), set()
        for _ in range(1_000):
            with pytest.raises(EngineFailed) as raised:
                await answer(scheduler, job("x"))
            depths.add(len(raised.traceback))
            seen.add(raised.value)
        assert len(depths) == 1
        assert len(seen) == 1_000


@pytest.mark.parametrize("kind", KINDS)
async def test_an_engine_that_cant_be_closed_still_ends(kind: str) -> None:
    """And so does its thread."""
    async with failing() as (scheduler, plan):
        plan.arm("close", kind)
        await scheduler.stop()
        await until(lambda: not scheduler.alive)


@pytest.mark.parametrize("site", ["insert", "step", "remove", "memory"])
async def test_a_hang_is_found_by_progress(site: str) -> None:
    """Wherever the engine hangs everyone is told once, and what can't come back is lost."""
    async with failing(STALL_S) as (scheduler, plan):
        plan.arm(site, hang=True)
        if site == "remove":
            async with scheduler.submit(job("a" * 500)) as chunks:
                await anext(chunks)
        results = await outcomes(scheduler, job("one"), job("two"), job("three"))
        assert len(told(results)) == 3
        assert scheduler.health.state == "unhealthy"
        assert "no progress" in scheduler.health.reason
        assert "no progress" in await asyncio.wait_for(scheduler.lost, 5)
        with pytest.raises(EngineFailed, match="no progress"):
            await answer(scheduler, job("late"))
        plan.disarm()
        await until(lambda: scheduler.healthy)


async def test_a_hang_of_a_command_is_found_too() -> None:
    """Nobody else has to wait for the engine."""
    async with failing(STALL_S) as (scheduler, plan):
        first = asyncio.create_task(scheduler.run(lambda: plan.released.wait(60)))
        behind = asyncio.create_task(scheduler.run(lambda: None))
        for each in (first, behind):
            with pytest.raises(EngineFailed, match="no progress"):
                await asyncio.wait_for(each, 10)
        assert scheduler.health.state == "unhealthy"
        plan.disarm()


async def test_an_engine_that_hangs_is_not_waited_for() -> None:
    """Stopping is quick, and tells who waits."""
    async with failing(60) as (scheduler, plan):
        plan.arm("step", hang=True)
        asked = asyncio.create_task(answer(scheduler, job("one")))
        await asyncio.to_thread(plan.hit.wait, 10)
        stopping = asyncio.create_task(scheduler.stop())
        with pytest.raises(EngineFailed, match="stopp"):
            await asyncio.wait_for(asked, 10)
        plan.disarm()
        await stopping


async def test_only_requests_are_queued() -> None:
    """Neither those that left nor commands count against whoever comes next."""
    async with failing() as (scheduler, plan):
        plan.arm("step", hang=True)
        blocked = asyncio.create_task(answer(scheduler, job("blocked")))
        await asyncio.to_thread(plan.hit.wait, 10)
        for _ in range(20):
            async with scheduler.submit(job("left")):
                pass
        commands = [asyncio.create_task(scheduler.run(lambda: None)) for _ in range(20)]
        await asyncio.sleep(0)
        assert scheduler.status.queued == 0
        asked = [asyncio.create_task(answer(scheduler, job(f"{n}"))) for n in range(8)]
        plan.disarm()
        results = await asyncio.gather(blocked, *asked)
        assert [text for text, _ in results] == ["blocked", *map(str, range(8))]
        await asyncio.gather(*commands)
