"""A day of traffic as events, and as the lines that servers write of it.

Everything is drawn from one seed. People come and go, agents start others, programs ask in bursts;
the server is restarted, killed, and started again with another model.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.codec import encode
from tests.corpora.day import lines as told
from tests.corpora.day.people import World, checks, person, script
from tests.corpora.day.server import Machine, Server
from tests.corpora.day.simulation import Process, Simulation

START_TS = 1_790_000_000.0
PEOPLE = 3
FIRST_PID = 4100
TICK_S, IDLE_TICK_S = 1.0, 10.0
BOOT_S = 9.0
OTHER_MODEL = "Qwen3-Coder-30B-A3B-4bit"
FAILURES_S = 5_400.0
"""Between two failures of the engine, on average."""


class DayEvent(NamedTuple):
    """An event, before it is a line."""

    at_s: float
    """Since the beginning of the day."""
    process: int
    """Which of the server's processes tells it, from 0 on."""
    process_s: float
    """When that began."""
    attrs: t.Attrs
    request_id: str
    session_id: str


class Day:
    """Puts everybody into a simulation, and collects what telemetry tells."""

    def __init__(self, hours: float, seed: int, people: int) -> None:
        self.chance = random.Random(f"day {seed}")
        self.ends_s = hours * 3600
        self.out: deque[DayEvent] = deque()
        self.simulation = Simulation()
        machine = Machine().times(people / PEOPLE)
        self.server = Server(self.simulation, machine, self.chance, self._emit)
        self.world = World(self.simulation, self.chance, self.ends_s, machine.window_tokens)
        self._process, self._process_s = -1, 0.0
        self._boot()
        for _ in range(people):
            self._run(person(self.world, 0.45 * self.ends_s))
        self._run(checks(self.world, min(1_200.0, self.ends_s / 12)))
        self._run(script(self.world, min(2_700.0, self.ends_s / 6)))
        self._plan()

    def _run(self, process: Process) -> None:
        self.simulation.run(process, self.server.answer)

    def _plan(self) -> None:
        """What happens to the server itself."""
        at, ends_s = self.simulation.at, self.ends_s
        at(0.21 * ends_s, self._add_tool)
        at(0.47 * ends_s, self._new_date)
        at(0.33 * ends_s, lambda: self._when_busy(lambda: self._restart(40)))
        at(0.58 * ends_s, lambda: self._when_busy(lambda: self._restart(95, killed=True)))
        at(0.79 * ends_s, lambda: self._when_busy(lambda: self._restart(60, model=OTHER_MODEL)))
        at(0.66 * ends_s, lambda: self._when_busy(lambda: self.server.fail_all(told.STALLED)))
        at(ends_s - 1e-3, self._stop)
        moment_s = self.chance.expovariate(1 / FAILURES_S)
        while moment_s < ends_s:
            at(moment_s, lambda: self._when_busy(lambda: self.server.fail_all(told.FAILED)))
            moment_s += self.chance.expovariate(1 / FAILURES_S)

    def _when_busy(self, call: Callable[[], None]) -> None:
        """Do something as soon as the engine works at a request."""
        if any(running.times for running in self.server.running):
            call()
        elif self.simulation.now_s < self.ends_s - 60:
            self.simulation.after(0.5, lambda: self._when_busy(call))

    def _new_date(self) -> None:
        """Another line in the system prompt."""
        self.world.update(replace(self.world.main, version=1))

    def _add_tool(self) -> None:
        """A new tool: what sessions say first differs from all that is known."""
        main = self.world.main
        self.world.update(replace(main, tools=(*main.tools, "Lint")))

    def _restart(self, down_s: float, *, killed: bool = False, model: str = "") -> None:
        self._stop(killed=killed)
        self.simulation.after(down_s, lambda: self._boot(model))

    def _stop(self, *, killed: bool = False) -> None:
        uptime_s = self.simulation.now_s - self._process_s
        self.server.stop(killed=killed)
        if not killed:
            self._emit(t.ServerStop(reason="SIGTERM", uptime_s=uptime_s), "", "")

    def _boot(self, model: str = "") -> None:
        self._process += 1
        self._process_s = self.simulation.now_s - BOOT_S
        self.server.start(model)
        machine = self.server.machine
        header = t.StreamStart(
            service_version="0.1.0",
            server_address="127.0.0.1",
            server_port=8081,
            model=machine.model,
            context_tokens=machine.window_tokens,
            host="host",
            chip="Apple M4 Max",
            memory_bytes=64 * 1024**3,
            mlx_version="0.32.4",
            device="metal",
        )
        self._emit(header, "", "")
        self._tick(self._process)

    def _tick(self, process: int) -> None:
        if process != self._process or not self.server.up:
            return
        self._emit(told.tick(self.server, self.simulation.now_s), "", "")
        pause_s = TICK_S if self.server.running else IDLE_TICK_S
        self.simulation.after(pause_s, lambda: self._tick(process))

    def _emit(self, attrs: t.Attrs, request_id: str, session_id: str) -> None:
        moment_s = self.simulation.now_s
        event = DayEvent(moment_s, self._process, self._process_s, attrs, request_id, session_id)
        self.out.append(event)


def day(hours: float = 8.0, seed: int = 1, people: int = PEOPLE) -> Iterator[DayEvent]:
    """All events in the order of their moments. More people get a machine that is faster."""
    made = Day(hours, seed, people)
    yield from _drained(made.out)
    while made.simulation.step(made.ends_s):
        yield from _drained(made.out)


def _drained(out: deque[DayEvent]) -> Iterator[DayEvent]:
    while out:
        yield out.popleft()


def lines(
    hours: float = 8.0, seed: int = 1, people: int = PEOPLE, start_ts: float = START_TS
) -> Iterator[bytes]:
    """The same as lines, numbered by process as servers number them."""
    sequence: dict[int, int] = {}
    for event in day(hours, seed, people):
        number = sequence[event.process] = sequence.get(event.process, -1) + 1
        yield encode(
            event.attrs,
            ts=round(start_ts + event.at_s, 6),
            mono=round(event.at_s - event.process_s, 6),
            seq=number,
            pid=FIRST_PID + event.process,
            request_id=event.request_id,
            session_id=event.session_id,
        )
