"""Clients that come, leave and come again at random, and what has to hold whatever they do."""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mlxdeck.server.admin.cache_report import clear_caches
from mlxdeck.server.backends.local.kv.disk_prefix_cache import FOLDER
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.errors import EngineFailed, Overloaded, ServerError
from tests.server.concurrency.client import Client
from tests.server.concurrency.house import LIMITS, STATE_BYTES, Errors, House, logged_as_text

WAIT_S = 10.0
"""Whatever takes longer than this hangs."""
CAPACITY = int(LIMITS["max_batch"] + LIMITS["max_waiting"])
"""So many requests are taken before one is refused."""
SYSTEMS = ("You are terse. " * 8, "You are kind.")
"""One is longer than what is stored at all, one shorter."""


class Violation(AssertionError):
    """Something that must hold does not."""


class Driver:
    """Does random things to a house, and looks at it whenever it has come to rest."""

    def __init__(
        self,
        home: Path,
        seed: int,
        monkeypatch: pytest.MonkeyPatch,
        only: tuple[str, ...] = (),
    ) -> None:
        """`only` names what may happen; empty for everything."""
        self.house = House(home, seed)
        self.random = Random(seed)
        self.done = Counter[str]()
        self._monkeypatch = monkeypatch
        self._only = only
        self._clients: list[Client] = []
        self._others: set[asyncio.Task[Any]] = set()
        self._faults = 0
        self._violations: list[str] = []
        self._n_traced = 0

    def found(self, what: str) -> None:
        """Note a violation; the run ends at the next look."""
        self._violations.append(what)

    def failed(self, client: Client, error: ServerError) -> None:
        """A client was told of an error: right if one was planted, or if there is a crowd."""
        n_others = sum(not (each.outcome or each.has_left) for each in self._clients) - 1
        crowded = isinstance(error, Overloaded) and n_others >= CAPACITY
        if not crowded and not (self._faults and isinstance(error, EngineFailed)):
            self.found(f"{client.request_id} got {error!r} beside {n_others} others")

    async def run(self, n_rounds: int) -> None:
        """Do so many things.

        Raises:
            Violation: Something does not hold.
        """
        loop, errors = asyncio.get_running_loop(), Errors()
        logger = logging.getLogger("mlxdeck")
        logger.addHandler(errors)
        loop.set_exception_handler(lambda _, about: self.found(f"on the loop: {about}"))
        try:
            with self.house.pausing(self._monkeypatch), logged_as_text():
                await self.house.open()
                try:
                    for number in range(n_rounds):
                        await self._do()
                        if number % 8 == 7 or number == n_rounds - 1:
                            await self._settle()
                        self._violations += errors.texts
                        self._raise()
                finally:
                    for client in self._clients:
                        client.leave()
                    await self._ended([client.task for client in self._clients])
                    await self.house.close()
            await asyncio.sleep(0)
            self._violations += errors.texts
            self._raise()
        finally:
            logger.removeHandler(errors)
            loop.set_exception_handler(None)

    def _raise(self) -> None:
        if self._violations:
            raise Violation("; ".join(self._violations[:5]))

    async def _ended(self, tasks: list[asyncio.Task[Any]]) -> None:
        if tasks:
            _, hanging = await asyncio.wait(tasks, timeout=WAIT_S)
            if hanging:
                raise Violation(f"{len(hanging)} hang: {[*hanging][0]}")

    # What may happen.

    async def _do(self) -> None:
        things = {
            self._ask: 5, self._ask_together: 3, self._leave_one: 4, self._abort_and_resend: 5,
            self._all_leave_and_one_comes: 3, self._leave_while_leased: 4,
            self._leave_while_restored: 3, self._clear: 2, self._clear_while_read: 2,
            self._go_idle: 4, self._fail_to_load: 1, self._tick: 3,
            self._answer_beside_a_checksum: 1, self._crowd: 2, self._fail: 1,
            self._restart: 1,
        }  # fmt: skip
        if self._only:
            things = {thing: n for thing, n in things.items() if thing.__name__ in self._only}
        (thing,) = self.random.choices([*things], [*things.values()])
        self.done[thing.__name__] += 1
        await thing()
        await self._pause()

    def _asked(self) -> tuple[str, ...]:
        """A conversation: some system prompt, some turns, often one that was there before."""
        which, n_turns = self.random.randrange(6), self.random.choice((1, 1, 3, 5))
        turns = [f"conversation {which}, turn {n}: " + "word " * 20 for n in range(n_turns)]
        return (SYSTEMS[which % len(SYSTEMS)], *turns)

    def _come(self, asked: tuple[str, ...]) -> Client:
        self._n_traced += 1
        client = Client(self, asked, self._n_traced)
        self._clients.append(client)
        return client

    async def _pause(self, longest_s: float = 0.01) -> None:
        """Some turns of the loop, or some milliseconds."""
        if self.random.random() < 0.6:
            for _ in range(self.random.randrange(12)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.random.random() * longest_s)

    async def _ask(self) -> None:
        self._come(self._asked())

    async def _ask_together(self) -> None:
        asked = self._asked()
        for _ in range(self.random.randrange(2, 5)):
            self._come(asked)
            await self._pause(0.002)

    async def _leave_one(self) -> None:
        client = self._come(self._asked())
        await self._pause(0.03)
        client.leave()

    async def _abort_and_resend(self) -> None:
        """The second try comes in the very turn in which the first one's client leaves."""
        asked = self._asked()
        client = self._come(asked)
        await self._pause(0.02)
        client.leave()
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        self._come(asked)

    async def _all_leave_and_one_comes(self) -> None:
        asked = self._asked()
        clients = [self._come(asked) for _ in range(3)]
        await self._pause(0.02)
        for client in clients:
            client.leave()
        self._come(asked)

    async def _leave_while_leased(self) -> None:
        """The prompt thread is making a lease on what is known as its client leaves."""
        states = self.house.engine.states
        client = self._come(self._asked())
        await self._when(lambda: states.leasing)
        client.leave()

    async def _leave_while_restored(self) -> None:
        """The engine's thread is reading what is on disk only as its client leaves."""
        asked, states = self._asked(), self.house.engine.states
        await self._ended([self._come(asked).task])
        self._tick_all()
        await self._written()
        for tier in ("exact", "exact_disk", "prefix"):
            await self._clears(tier)
        client = self._come(asked)
        await self._when(lambda: states.loading)
        client.leave()

    async def _when(self, condition: Callable[[], bool]) -> None:
        """Wait for the moment, if it comes."""
        for _ in range(300):
            if condition():
                return
            await asyncio.sleep(0 if self.random.random() < 0.9 else 0.001)

    async def _clear(self) -> None:
        tier = self.random.choice(("", "exact", "exact_disk", "prefix", "prefix_disk"))
        clearing = asyncio.create_task(self._clears(tier))
        self._others.add(clearing)
        clearing.add_done_callback(self._others.discard)

    async def _clear_while_read(self) -> None:
        """An answer that is on disk only is being read as that is cleared."""
        asked = self._asked()
        await self._ended([self._come(asked).task])
        await self._written()
        await self._clears("exact")
        self._come(asked)
        for _ in range(self.random.randrange(1, 6)):
            await asyncio.sleep(0)
        await self._clears("exact_disk")

    async def _tick(self) -> None:
        self._tick_all()

    def _tick_all(self) -> None:
        self.house.service.caches.tick()
        self.house.backend.kv.flush()

    async def _clears(self, tier: str) -> None:
        await clear_caches(self.house.service, tier)

    async def _answer_beside_a_checksum(self) -> None:
        """An answer that is on disk comes while the file of a state is being checked."""
        await self._settle()
        asked = (SYSTEMS[0], f"answer {self._n_traced}")
        first = self._come(asked)
        await self._ended([first.task])
        await self._written()
        await self._clears("exact")
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        def check(_: object) -> bool:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
            return True

        checking = asyncio.create_task(self._disk.check(check, False))
        await asyncio.sleep(0.01)
        second = self._come(asked)
        _, waiting = await asyncio.wait([second.task], timeout=1.0)
        gate.set()
        await checking
        if waiting:
            self.found(f"{second.request_id} waited for the checksum of a state")

    async def _crowd(self) -> None:
        """As many as may wait do; some leave, and as many others have room."""
        await self._settle()
        engine, scheduler = self.house.engine, self.house.backend.scheduler
        engine.goes_on.clear()
        try:
            clients = []
            for number in range(CAPACITY):
                asked = (SYSTEMS[0], f"one of crowd {self._n_traced}, {number}")
                clients.append(self._come(asked))
                await self._until(lambda: len(scheduler._open) == len(clients))
            for client in clients[-3:]:
                client.leave()
            await self._ended([client.task for client in clients[-3:]])
            # A shared generation ends some turns of the loop after its last client.
            await self._until(lambda: len(scheduler._open) == CAPACITY - 3)
            for number in range(3):
                self._come((SYSTEMS[0], f"late for crowd {self._n_traced}, {number}"))
            await self._until(lambda: len(scheduler._open) == CAPACITY or self._violations)
        finally:
            engine.goes_on.set()

    async def _until(self, condition: Callable[[], object]) -> None:
        for _ in range(int(WAIT_S / 0.001)):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise Violation("a request is not even queued")

    async def _fail(self) -> None:
        """The engine fails once; those who are there may be told."""
        await self._settle()
        self._faults += 1
        self.house.engine.fails_next = True
        clients = [self._come(self._asked()) for _ in range(3)]
        await self._ended([client.task for client in clients])
        self.house.engine.fails_next = False
        self._faults -= 1

    async def _go_idle(self) -> None:
        """Nobody has asked for a while, as it seems; somebody comes at any moment of that."""
        if self.random.random() < 0.6:
            await self._ended([client.task for client in self._clients])
        self.house.backend.tick()
        await self._pause(0.03)
        if self.random.random() < 0.7:
            client = self._come(self._asked())
            await self._pause(0.02)
            if self.random.random() < 0.4:
                client.leave()

    async def _fail_to_load(self) -> None:
        """A model that is unloaded can't be loaded again, once."""
        await self._settle()
        self._faults += 1
        self.house.engine.fails_to_load = True
        self.house.backend.tick()
        await self._pause(0.03)
        clients = [self._come(self._asked()) for _ in range(3)]
        await self._ended([client.task for client in clients])
        self.house.engine.fails_to_load = False
        self._faults -= 1

    async def _restart(self) -> None:
        await self._settle()
        await self.house.close()
        await self.house.open()

    # What has to hold at rest.

    async def _written(self) -> None:
        await asyncio.wrap_future(self._disk.write(lambda _: None))

    @property
    def _disk(self) -> DiskIO:
        disk = self.house.service.caches.disk
        assert disk is not None
        return disk.disk

    async def _settle(self) -> None:
        """Wait until everyone has been answered, write everything, and look."""
        await self._ended([client.task for client in self._clients])
        await self._ended([*self._others])
        self._look_at_ends()
        await self._holds(self._not_at_rest)
        await self._holds(self._wrong_in_ram)
        await self._holds(self._wrong_model)
        self._tick_all()
        await self._written()
        await self._holds(self._wrong_in_ram)
        await self._holds(self._wrong_on_disk)
        if self.random.random() < 0.3:
            await self._clears("")
            if n := len(self.house.backend.kv.states.ram):
                self.found(f"{n} states can't be cleared")
        self._raise()

    async def _holds(self, wrong: Callable[[], str]) -> None:
        """Threads may still be at what they were told, and hold what it was about; not for long."""
        for _ in range(20):
            if not (what := wrong()):
                return
            # The engine's thread holds its last command until there is another.
            await self.house.backend.scheduler.run(lambda: None)
            await asyncio.sleep(0.01)
        self.found(what)
        self._raise()

    def _not_at_rest(self) -> str:
        status = self.house.backend.scheduler.status
        n_flights = len(self.house.service.pipeline._flights)
        if status.active or status.queued or n_flights:
            return f"it does not come to rest: {status}, {n_flights} generations"
        return ""

    def _wrong_model(self) -> str:
        engine, model = self.house.engine, self.house.backend.scheduler.model
        if engine.is_loaded is not (model.state == "loaded") or model.state == "loading":
            return f"the model is taken for {model.state}, loaded: {engine.is_loaded}"
        if model.state == "unloaded" and engine._running:
            return f"{len(engine._running)} sequences have no model"
        return ""

    def _look_at_ends(self) -> None:
        ends = {line.request_id: line.attrs for line in self.house.telemetry.named("request.end")}
        n_ends = len(self.house.telemetry.named("request.end"))
        starts = {line.request_id for line in self.house.telemetry.named("request.start")}
        if n_ends != len(ends) or starts != set(ends):
            self.found(f"{len(starts)} requests began, {len(ends)} ended, {n_ends} times")
        for client in self._clients:
            told = getattr(ends.get(client.request_id), "outcome", "cancelled")
            # Who leaves at once has not even begun.
            outcome = client.outcome or ("cancelled" if client.has_left else "forgotten")
            if told != outcome:
                self.found(f"{client.request_id} was {outcome}, told as {told}")
        self._clients.clear()

    def _wrong_in_ram(self) -> str:
        ram, exact = self.house.backend.kv.states.ram, self.house.service.caches.tiers.ram
        parts = list(ram.tree.parts())
        if any(part.n_leases for part in parts):
            return f"leases are left: {[part.n_leases for part in parts]}"
        n_bytes = sum(STATE_BYTES * len(part.data) for part in parts if part.data)
        if not ram.n_bytes == n_bytes <= ram.max_bytes:
            return f"{ram.n_bytes} bytes of states, counted {n_bytes}"
        living = self.house.engine.states.living
        if living.n_bytes > n_bytes:
            gc.collect()
        if living.n_bytes > n_bytes:
            return f"{living.n_bytes} bytes of states live, {n_bytes} of them in the cache"
        if exact.n_bytes != sum(answer.n_bytes for answer in exact._answers.values()):
            return f"{exact.n_bytes} bytes of answers are not those of the answers"
        return ""

    def _wrong_on_disk(self) -> str:
        stored, disk = self.house.backend.kv.states.on_disk, self.house.service.caches.on_disk
        assert stored is not None and disk is not None
        folder = self.house.service.settings.cache_folder
        with closing(sqlite3.connect(folder / "cache.sqlite")) as connection:
            states = dict(connection.execute("select file, n_bytes from runs"))
            answers = [n for (n,) in connection.execute("select n_bytes from answers")]
        files = {path.name: path.stat().st_size for path in (folder / FOLDER).iterdir()}
        if files != states:
            return f"files {files} and index {states} differ"
        if (stored.n_files, stored.n_bytes) != (len(states), sum(states.values())):
            return f"{stored.n_files} files on disk, counted {len(states)}"
        if (len(disk), disk.n_bytes, disk.waiting_bytes) != (len(answers), sum(answers), 0):
            return f"{len(disk)} answers on disk, counted {len(answers)}"
        if sum(states.values()) > stored._max_bytes or sum(answers) > disk._max_bytes:
            return f"{sum(states.values())} and {sum(answers)} bytes on disk"
        return ""
