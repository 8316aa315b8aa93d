"""Faults below a whole server: each request has one clear end, and nothing is left behind."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.kv import write_queue
from mlxdeck.server.backends.local.scheduler import engine_thread
from mlxdeck.server.errors import EngineFailed
from tests.server.backends.local.faults import KINDS, Plan, faulty
from tests.server.http import Running, events, running, until

SYSTEM = "You are terse. " * 20


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rebuild and write without pauses."""
    monkeypatch.setattr(engine_thread, "REBUILD_AFTER_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(write_queue, "QUIET_S", 0.0)
    yield


def backend_of(server: Running) -> LocalBackend:
    """What answers there."""
    assert isinstance(server.service.backend, LocalBackend)
    return server.service.backend


async def ending(server: Running, prompt: str, *, stream: bool = False) -> str:
    """How a request ended: its text, or what the one error says."""
    answer = await server.ask(prompt, system=SYSTEM, stream=stream)
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert answer.status_code == 500 and error["type"] == "api_error"
        return str(error["message"])
    if not stream:
        return str(answer.json()["content"][0]["text"])
    found = events(answer.text)
    assert [name for name, _ in found].count("error") + ("message_stop" in dict(found)) == 1
    if found[-1][0] == "error":
        return str(found[-1][1]["error"]["message"])
    deltas = [data["delta"]["text"] for name, data in found if name == "content_block_delta"]
    return "".join(deltas)


async def is_whole(server: Running, n_asked: int) -> None:
    """Check that a server is as good as new: nothing held, nobody untold, and it answers."""
    backend = backend_of(server)
    await until(lambda: server.service.health.state == "healthy")
    assert await ending(server, f"after {n_asked}") == f"after {n_asked}"
    ends = await server.ended(n_asked + 1)
    assert len(ends) == len({end.response_id for end in ends}) == n_asked + 1
    worker = backend.scheduler._worker
    await until(lambda: worker.inbox.empty() and not worker.running)
    assert not any((worker._waiting, worker._open, worker._looping))
    assert not any((backend.scheduler._open, backend.scheduler._commands, backend._prompts._open))
    await until(lambda: not backend.kv.states.ram.n_leases)


SITES = (
    *("insert", "step", "memory", "states.lease", "states.block", "states.is_cuttable"),
    *("tokenizer.render", "tokenizer.encode_with_ends"),
)


@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
async def test_a_fault_anywhere_is_told_once(late: bool) -> None:
    """Of four requests, at most those that the fault concerns get an error that says so."""
    engine, plan = faulty(EchoEngine(step_s=0.0005))
    n_asked = 0
    async with running(engine, max_batch=2) as server:
        await ending(server, "first")
        for site in SITES:
            for kind in ("allocation", "system_exit", "key"):
                plan.arm(site, kind, late=late)
                prompts = [f"{site} {kind} {n}" for n in range(4)]
                found = await asyncio.gather(
                    *(ending(server, each, stream=n % 2 == 0) for n, each in enumerate(prompts))
                )
                n_asked += 4
                told = [each for each in found if each not in prompts]
                assert all("injected" in each for each in told), (site, kind, told)
                assert len(told) <= {"step": 2, "insert": 1}.get(site, 1), (site, kind, told)
                # A state that fails costs nobody an answer.
                assert not (told and site.startswith(("states", "memory"))), (site, told)
        plan.disarm()
        await is_whole(server, n_asked + 1)
        status = (await server.http.get("/v1/status")).json()
        assert status["engine_rebuilds"] == 3 and status["lost_states"] > 0
        figures = (await server.http.get("/metrics")).text
        assert "mlxdeck_engine_rebuilds_total 3" in figures


async def test_a_fault_of_the_disk_costs_no_answer(tmp_path: Path) -> None:
    """A state that can't be written, read or restored is computed again, and counted."""
    engine, plan = faulty(EchoEngine())
    async with running(engine, home=tmp_path, exact_cache_entries=0) as server:
        plan.arm("states.pack", "key")
        assert await ending(server, "one") == "one"
        await asyncio.to_thread(plan.hit.wait, 10)
        assert await ending(server, "two") == "two"
        cache = backend_of(server).kv.states
        assert cache.on_disk is not None
        await until(lambda: len(cache.on_disk))  # type: ignore[arg-type]
        for kind in ("allocation", "key"):
            await server.http.delete("/v1/cache", params={"tier": "prefix"})
            plan.arm("states.restore", kind)
            assert await ending(server, f"three {kind}") == f"three {kind}"
            assert plan.hit.is_set()
        report = (await server.http.get("/v1/cache")).json()
        assert report["prefix_disk"]["evictions"]["failed"] == 3
        await is_whole(server, 4)


@pytest.mark.parametrize(
    "site", ["insert", "step", "states.block", "states.lease", "tokenizer.render"]
)
async def test_a_hang_anywhere_is_found_and_told(site: str) -> None:
    """Everyone gets one error in time, `/health` says which, and the process would be ended."""
    engine, plan = faulty(EchoEngine())
    async with running(engine, stall_s=1, ping_s=0.05, max_batch=2) as server:
        for watch in (backend_of(server).scheduler._watch, backend_of(server)._prompts.watch):
            watch._stall_s = 0.3
        await ending(server, "first")
        plan.arm(site, hang=True)
        asked = [ending(server, f"{site} {n}", stream=n == 0) for n in range(3)]
        found = await asyncio.wait_for(asyncio.gather(*asked), 20)
        told = [each for each in found if not each.startswith(site)]
        assert told and all("no progress" in each for each in told)
        health = await server.http.get("/health")
        assert health.status_code == 503
        assert health.json()["status"] == "unhealthy"
        assert "no progress" in health.json()["reason"]
        assert "no progress" in await ending(server, "late")
        assert "no progress" in await asyncio.wait_for(asyncio.shield(lost(server)), 10)
        plan.disarm()
        await is_whole(server, 5)


def lost(server: Running) -> asyncio.Future[str]:
    """What ends the process."""
    return backend_of(server).lost


async def test_an_engine_that_is_lost_tells_everyone() -> None:
    """Whoever waits, whoever comes; each has one end."""
    engine, plan = faulty(EchoEngine(step_s=0.001))
    async with running(engine, max_batch=2) as server:
        plan.arm("step", n_before=3, n_times=1 << 30)
        found = await asyncio.gather(*(ending(server, f"ask {n}" * 20) for n in range(5)))
        assert all("injected" in each for each in found)
        assert "injected" in await asyncio.wait_for(asyncio.shield(lost(server)), 10)
        assert "injected" in await ending(server, "late")
        assert (await server.http.get("/health")).json()["status"] == "unhealthy"
        assert len(await server.ended(6)) == 6
        assert backend_of(server).kv.states.ram.n_leases == 0


async def test_caches_give_way_before_the_engine_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If it can't be rebuilt at once, memory may be what lacks."""
    # In the pause, whoever is told gives its lease back.
    monkeypatch.setattr(engine_thread, "REBUILD_AFTER_S", (0.0, 0.2, 0.0))
    engine, plan = faulty(EchoEngine())
    async with running(engine) as server:
        await ending(server, "first")
        assert len(backend_of(server).kv.states.ram) == 1
        # The step of a request, and then those of the first attempts.
        plan.arm("step", n_times=3)
        assert "injected" in await ending(server, "second")
        # The client is told before the engine is rebuilt.
        await until(lambda: not len(backend_of(server).kv.states.ram))
        await until(lambda: server.service.health.state == "healthy")
        plan.disarm()
        await is_whole(server, 2)


async def test_health_says_that_the_engine_is_rebuilt() -> None:
    """Meanwhile requests wait, and are answered by the new one."""
    inner, breaks = faulty(EchoEngine(step_s=0.001))
    engine, holds_up = faulty(inner)
    async with running(engine) as server:
        holds_up.arm("reset", hang=True)
        breaks.arm("step")
        assert "injected" in await ending(server, "fails")
        waiting = asyncio.create_task(ending(server, "waits"))
        await asyncio.to_thread(holds_up.hit.wait, 10)
        health = (await server.http.get("/health")).json()
        assert (health["status"], "injected" in health["reason"]) == ("rebuilding", True)
        holds_up.disarm()
        assert await waiting == "waits"
        await is_whole(server, 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_that_cant_be_loaded_is_told_to_whoever_comes(kind: str) -> None:
    """Again and again, without growing: each gets an error of its own."""
    engine, plan = faulty(EchoEngine())
    plan.arm("load", kind)
    async with running(engine, loaded=False) as server:
        found = [await ending(server, "hello") for _ in range(5)]
        assert len(set(found)) == 1 and "injected" in found[0]
        health = await server.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        depths = []
        for _ in range(200):
            with pytest.raises(EngineFailed) as raised:
                await server.service.ready()
            depths.append(len(raised.traceback))
        assert len(set(depths)) == 1
        error = server.service.loading.exception()
        assert len(traceback.extract_tb(error.__traceback__ if error else None)) < 20


def test_a_plan_is_quiet_unless_it_is_armed() -> None:
    """What is injected is injected on purpose."""
    plan = Plan()
    assert plan.call("step", lambda: 3) == 3
    plan.arm("step")
    with pytest.raises(RuntimeError):
        plan.call("step", lambda: 3)
    assert plan.call("step", lambda: 3) == 3
