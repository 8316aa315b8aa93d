"""A model that nobody asks is unloaded, and loaded again for the next request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server import service
from mlxdeck.server.backends.local import idle
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.kv import write_queue
from mlxdeck.server.load import ModelState
from mlxdeck.telemetry.schema.events import ModelLoad, ModelUnload
from tests.server.backends.local.faults import KINDS, faulty
from tests.server.http import Running, body, events, running, until
from tests.server.test_faults import SYSTEM, backend_of, ending, is_whole

AFTER_S = 0.05
N_STEPS = 3
LONG = " ".join(map(str, range(80)))


class SlowToLoad(EchoEngine):
    """Loads again in steps that wait to be allowed."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.steps = threading.Semaphore(0)
        self.is_held = False
        """Whether steps wait; set by a test once the model is unloaded."""
        self.n_begun = self.n_abandoned = 0
        self.kinds: list[str] = []
        """How the next loads fail."""

    def reload(self) -> Generator[None]:
        """Some steps; then it is there, or fails."""
        try:
            for _ in range(N_STEPS):
                self.n_begun += 1
                if self.is_held:
                    self.steps.acquire()
                yield
        except GeneratorExit:
            self.n_abandoned += 1
            raise
        if self.kinds:
            raise KINDS[self.kinds.pop(0)]()
        self.is_loaded = True

    def go_on(self, n_steps: int = N_STEPS) -> None:
        """Allow so many steps."""
        self.steps.release(n_steps)


@pytest.fixture(autouse=True)
def ticks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is unloaded unless the test looks on, but for one that is slow to start."""
    monkeypatch.setattr(service, "TICK_S", 3600.0)


def model_of(server: Running) -> ModelState:
    """The one model of a server."""
    (model,) = server.service.load.models
    return model


async def unloaded(server: Running) -> ModelState:
    """Wait until the model is unloaded, with ticks that come sooner than every second."""
    for _ in range(2000):
        server.service.backend.tick()
        if (model := model_of(server)).state == "unloaded":
            return model
        await asyncio.sleep(0.005)
    raise AssertionError(f"it is not unloaded: {model_of(server)}")


async def test_an_idle_model_is_unloaded_and_comes_back() -> None:
    """Not while somebody asks; /health stays healthy, and the answer is what it was."""
    engine = EchoEngine(step_s=0.002)
    async with running(engine, unload_after_s=AFTER_S) as server:
        assert await ending(server, "before") == "before"
        await unloaded(server)
        assert not engine.is_loaded
        health = (await server.http.get("/health")).json()
        assert health["status"] == "healthy" and "unloaded" in health["reason"]
        assert not health["model_loaded"]
        asked = asyncio.create_task(ending(server, LONG, stream=True))
        await until(lambda: model_of(server).state == "loaded")
        while not asked.done():
            server.service.backend.tick()
            await asyncio.sleep(0.005)
        assert await asked == LONG
        model = model_of(server)
        assert model.n_unloads == model.n_loads >= 1 and not model.n_failed
        await is_whole(server, 2)


async def test_without_the_setting_it_stays() -> None:
    """By default, a model stays for as long as the server."""
    async with running(EchoEngine()) as server:
        await ending(server, "once")
        for _ in range(20):
            server.service.backend.tick()
            await asyncio.sleep(0.005)
        assert model_of(server).state == "loaded" and model_of(server).n_unloads == 0


async def test_what_needs_no_weights_loads_nothing() -> None:
    """A known answer, a count, and what is malformed or too long."""
    async with running(EchoEngine(context_tokens=2_000), unload_after_s=AFTER_S) as server:
        assert await ending(server, "known") == "known"
        before = await unloaded(server)
        assert await ending(server, "known") == "known"
        counted = await server.http.post("/v1/messages/count_tokens", json=body("some text"))
        assert counted.status_code == 200 and counted.json()["input_tokens"] > 9
        assert (await server.ask("much " * 1_000)).status_code == 400
        for path in ("/v1/models", "/v1/status", "/v1/cache", "/metrics"):
            assert (await server.http.get(path)).status_code == 200
        assert (model_of(server).state, model_of(server).n_loads) == ("unloaded", before.n_loads)


async def test_all_wait_for_the_same_load_with_pings() -> None:
    """Requests that come during the load wait like the first; it happens once, and is told."""
    engine = SlowToLoad()
    async with running(engine, unload_after_s=AFTER_S, ping_s=0.05) as server:
        await ending(server, "before")
        before, engine.is_held = await unloaded(server), True
        server.service.observer.look(server.service.load)
        before_steps = engine.n_begun
        asked = [asyncio.create_task(server.ask(f"ask {n}", stream=n < 2)) for n in range(4)]
        await until(lambda: model_of(server).state == "loading")
        health = (await server.http.get("/health")).json()
        assert health["status"] == "healthy" and "loaded again" in health["reason"]
        await asyncio.sleep(0.2)
        engine.go_on(1)
        await until(lambda: engine.n_begun > before_steps + 1)
        told = (await server.http.get("/v1/status")).json()["requests"]
        assert {each["waits_for"] for each in told} == {"the model, which is being loaded"}
        engine.go_on()
        answers = await asyncio.gather(*asked)
        for n, answer in enumerate(answers):
            assert answer.status_code == 200 and f"ask {n}"[-1] in answer.text
        assert all(("ping", {"type": "ping"}) in events(each.text)[2:] for each in answers[:2])
        assert model_of(server).n_loads == before.n_loads + 1
        ends = await server.ended(5)
        assert ends[0].load_s is None
        assert all(end.load_s and end.load_s > 0.1 for end in ends[1:])
        assert all(end.queue_s < end.load_s for end in ends[1:])
        server.service.observer.look(server.service.load)
        gone, come = (server.telemetry.named(kind.NAME)[-1] for kind in (ModelUnload, ModelLoad))
        assert isinstance(gone.attrs, ModelUnload) and gone.attrs.model == "echo"
        assert isinstance(come.attrs, ModelLoad) and come.attrs.outcome == "ok"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_load_that_fails_is_told_and_tried_again(kind: str) -> None:
    """One clear error for each who waits; the next request has it loaded anew."""
    engine = SlowToLoad()
    async with running(engine, unload_after_s=AFTER_S) as server:
        await ending(server, "before")
        before, engine.is_held = await unloaded(server), True
        engine.kinds = [kind]
        asked = [asyncio.create_task(ending(server, f"{n}", stream=n == 0)) for n in range(3)]
        await until(lambda: server.service.load.queued == 3)
        engine.go_on()
        found = await asyncio.gather(*asked)
        assert all("injected" in each for each in found)
        model = model_of(server)
        assert (model.state, model.n_failed, model.n_loads) == ("unloaded", 1, before.n_loads)
        assert (await server.http.get("/health")).json()["status"] == "healthy"
        engine.go_on()
        assert await ending(server, "again") == "again"
        assert (model_of(server).n_failed, model_of(server).n_loads) == (1, before.n_loads + 1)
        assert server.service.backend.status.details["engine_rebuilds"] == 0
        await is_whole(server, 5)


@pytest.mark.parametrize("site", ["unload", "reload", "memory"])
@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
async def test_a_fault_around_it_costs_one_request_at_most(site: str, late: bool) -> None:
    """Wherever the engine fails, the request after the next one is answered."""
    engine, plan = faulty(EchoEngine())
    async with running(engine, unload_after_s=AFTER_S) as server:
        await ending(server, "before")
        plan.arm(site, "system_exit", late=late)
        await unloaded(server)
        found = await ending(server, "one")
        assert found == "one" or ("injected" in found and site == "reload")
        assert await ending(server, "two") == "two"
        assert plan.hit.is_set()
        await is_whole(server, 3)


async def test_who_leaves_during_the_load_leaves_nothing() -> None:
    """No sequence, no lease; the model is loaded all the same, and goes again when it is time."""
    engine = SlowToLoad()
    async with running(engine, unload_after_s=AFTER_S) as server:
        await ending(server, "before")
        before, engine.is_held = await unloaded(server), True
        asked = asyncio.create_task(server.ask("left", stream=True))
        await until(lambda: model_of(server).state == "loading")
        asked.cancel()
        assert [end.outcome for end in await server.ended(2)] == ["ok", "cancelled"]
        engine.go_on()
        await until(lambda: model_of(server).state == "loaded")
        assert (await unloaded(server)).n_loads == before.n_loads + 1
        engine.go_on()
        await is_whole(server, 2)


@pytest.mark.parametrize("site", ["unload", "reload"])
async def test_a_hang_around_it_is_found_and_told(site: str) -> None:
    """As a step that hangs: everyone gets one error, and the process would be ended."""
    engine, plan = faulty(EchoEngine())
    async with running(engine, stall_s=1, unload_after_s=AFTER_S) as server:
        backend = backend_of(server)
        backend.scheduler._watch._stall_s = 0.3
        await ending(server, "before")
        if site == "reload":
            await unloaded(server)
        plan.arm(site, hang=True)
        while site == "unload" and not plan.hit.is_set():
            backend.tick()
            await asyncio.sleep(0.01)
        assert "no progress" in await ending(server, "one", stream=True)
        assert (await server.http.get("/health")).status_code == 503
        assert "no progress" in await asyncio.wait_for(asyncio.shield(backend.lost), 10)
        plan.disarm()
        await is_whole(server, 2)


async def test_a_long_load_that_moves_is_no_hang() -> None:
    """Each step is progress, however long all of them take."""
    engine = SlowToLoad()
    async with running(engine, stall_s=1, unload_after_s=AFTER_S) as server:
        backend_of(server).scheduler._watch._stall_s = 0.4
        await ending(server, "before")
        await unloaded(server)
        engine.is_held = True
        asked = asyncio.create_task(ending(server, "one"))
        for _ in range(N_STEPS):
            await asyncio.sleep(0.25)
            engine.go_on(1)
        assert await asked == "one"
        assert not backend_of(server).lost.done()


async def test_a_stop_does_not_wait_for_a_load() -> None:
    """It ends with the step that it is in; who waits is told, and what was read is let go."""
    engine = SlowToLoad()
    async with running(engine, unload_after_s=AFTER_S) as server:
        await ending(server, "before")
        await unloaded(server)
        engine.is_held = True
        asked = asyncio.create_task(ending(server, "one"))
        await until(lambda: model_of(server).state == "loading")
        stopping = asyncio.create_task(backend_of(server).stop())
        assert "stopp" in (told := await asked), told
        engine.go_on(1)
        await asyncio.wait_for(stopping, 4)
        await until(lambda: engine.n_abandoned)
        assert not engine.is_loaded


async def test_states_come_back_from_disk(tmp_path: Path) -> None:
    """All that were not written yet are written first; those too short for a file are counted."""
    async with running(EchoEngine(), home=tmp_path, unload_after_s=AFTER_S) as server:
        ram = backend_of(server).kv.states.ram
        assert await ending(server, "first") == "first"
        await server.ask("tiny")
        assert len(ram) == len(ram.waiting) + 1 == 2
        await unloaded(server)
        assert (len(ram), ram.n_bytes, ram.unwritten) == (0, 0, 0)
        assert await ending(server, "second") == "second"
        end = (await server.ended(3))[-1]
        assert end.cache_tier == "disk" and end.cached_tokens > len(SYSTEM)
        report = (await server.http.get("/v1/cache")).json()
        assert report["prefix"]["evictions"] == {"unloaded": 2}
        assert report["prefix_disk"]["hits"] == 1


async def test_states_that_the_disk_does_not_take_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs keeps no model in memory; what it lacks is counted."""
    monkeypatch.setattr(idle, "WRITE_S", 0.05)
    monkeypatch.setattr(write_queue, "QUIET_S", 1e6)
    engine, plan = faulty(EchoEngine())
    async with running(engine, home=tmp_path, unload_after_s=AFTER_S) as server:
        for n in range(3):
            await ending(server, f"{n} " * 200)
        plan.arm("states.pack", hang=True)
        await unloaded(server)
        states = backend_of(server).kv.states
        # The one that is being written is held until it is.
        assert (len(states.ram), states.ram.unwritten) == (1, 2)
        plan.disarm()
        await until(lambda: not states.ram.n_leases)
        assert await ending(server, "after") == "after"


async def test_who_asks_while_states_are_written_keeps_the_model(tmp_path: Path) -> None:
    """Unloading is decided only once nothing more has to be written."""
    engine, plan = faulty(EchoEngine())
    async with running(engine, home=tmp_path, unload_after_s=0.3) as server:
        await ending(server, "before")
        plan.arm("states.pack", hang=True)
        while not plan.hit.is_set():
            server.service.backend.tick()
            await asyncio.sleep(0.01)
        assert await ending(server, "meanwhile") == "meanwhile"
        plan.disarm()
        await until(lambda: backend_of(server)._idle._unloading is None)
        assert (model_of(server).state, model_of(server).n_unloads) == ("loaded", 0)
