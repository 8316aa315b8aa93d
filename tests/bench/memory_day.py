"""Eight hours of a 64 GB Mac in a minute: who gets memory, what is known, how long requests wait.

The cache of KV states, the engine thread, admission and the plan of each step are the real ones.
The model (`SizedEngine`), the clients (`tests.corpora.day`) and the clock are made up.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from unittest import mock

from mlxdeck.server.backends.local.engine.api import KVState, SamplingParams, SequenceSpec
from mlxdeck.server.backends.local.kv.blocks import FileRange, KVPart
from mlxdeck.server.backends.local.kv.cooling import Cooling
from mlxdeck.server.backends.local.kv.kv_cache import KVCache
from mlxdeck.server.backends.local.kv.leases import Lease
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.backends.local.kv.write_queue import unwritten
from mlxdeck.server.backends.local.scheduler.commands import Enter, Leave
from mlxdeck.server.backends.local.scheduler.engine_thread import EngineThread, Parcel
from mlxdeck.server.backends.local.scheduler.sequence import Done
from mlxdeck.server.backends.local.scheduler.sequence import Sequence as Job
from mlxdeck.server.backends.local.scheduler.shared_thread import SharedThread
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import PromptTooLong, ServerError
from tests.bench.day_prompts import Unlimited, answer_name, answer_tokens, prompt_tokens
from tests.bench.figures import figure
from tests.bench.load import heading
from tests.bench.memory_report import Report, Wait, part_of
from tests.bench.sized_engine import Machine, Meter, SizedEngine
from tests.corpora.day.people import World, checks, person, script
from tests.corpora.day.requests import Ask, Outcome
from tests.corpora.day.simulation import Simulation

TOKENIZE_TOKENS_PER_S = 450_000.0
TICK_S = 1.0
HOURS, PEOPLE = 8.0, 6


@dataclass(slots=True, eq=False)
class _Request:
    ask: Ask
    done: Callable[[Outcome], None]
    came_s: float
    answer: bytes
    lease: Lease | None = None
    job: Job | None = None
    is_over: bool = False
    step: int = 0
    """The engine's last step as it was submitted."""
    followers: list[Callable[[Outcome], None]] = field(default_factory=list)


class MemoryDay:
    """One server's life."""

    def __init__(
        self,
        hours: float,
        seed: int,
        people: int,
        machine: Machine,
        settings: Settings,
    ) -> None:
        self._eight_bits = settings.kv_8bit
        chance = random.Random(f"memory day {seed}")
        self._ends_s = hours * 3600
        self._simulation = Simulation()
        self._engine_s: float | None = None
        """The engine thread's time, in the middle of a turn."""
        meter = Meter()
        self.report = Report(hours, machine, meter)
        self._engine = SizedEngine(machine, meter, self._spend)
        self._ram = PrefixCache(self._engine.states, self._engine.spare_bytes())
        self._kv = KVCache(self._engine.states, self._ram, None, _on_engine)
        self._cooling = Cooling(self._ram.tree, self._ram.leases, self._engine.states)
        self._worker = EngineThread(
            self._engine,
            self,
            SharedThread(),
            max_batch=settings.max_batch,
            prefill_chunk_tokens=settings.prefill_chunk_tokens,
            step_budget_tokens=settings.step_budget_tokens,
        )
        self._worker.room.give_way = self._ram.give_way
        self._ram.free_bytes = self._worker.room.free_bytes
        self._worker.room.loaded(self._engine.load(lambda _: None))
        self._max_waiting = settings.max_waiting
        self._on_disk: deque[tuple[KVPart, int]] = deque()
        self._disk_bytes = 0
        self._answers: set[str] = set()
        self._flights: dict[str, _Request] = {}
        self._jobs: dict[Job, _Request] = {}
        self._unlimited = Unlimited()
        self._turns = False
        self._world = World(self._simulation, chance, self._ends_s, machine.window_tokens)
        for _ in range(people):
            self._simulation.run(person(self._world, 0.45 * self._ends_s), self.answer)
        for other in (
            checks(self._world, min(1_200.0, self._ends_s / 12)),
            script(self._world, min(2_700.0, self._ends_s / 6)),
        ):
            self._simulation.run(other, self.answer)
        self._simulation.after(TICK_S, self._tick)

    def run(self) -> Report:
        """To the end of the day."""
        with self._made_up_clock():
            while self._simulation.step(self._ends_s):
                pass
        report = self.report
        report.n_steps, report.unwritten = self._engine.n_steps, self._ram.unwritten
        report.evicted = dict(self._ram.stats.evictions)
        return report

    @contextmanager
    def _made_up_clock(self) -> Iterator[None]:
        with (
            mock.patch("time.monotonic", self._now_s),
            mock.patch("time.perf_counter", self._now_s),
        ):
            yield

    def _now_s(self) -> float:
        return self._simulation.now_s if self._engine_s is None else self._engine_s

    def _spend(self, seconds: float) -> None:
        if self._engine_s is not None:
            self._engine_s += seconds

    # The event loop's side.

    def answer(self, ask: Ask, done: Callable[[Outcome], None]) -> None:
        """Take a request."""
        talk, report = ask.conversation, self.report
        if talk.agent_id:
            report.agents.add(talk.agent_id)
        elif talk.client.name == "main agent":
            report.conversations.add(talk.name)
        if ask.malformed or ask.prompt.n_tokens + 1 > self._engine.machine.window_tokens:
            outcome = Outcome.REFUSED if ask.malformed else Outcome.TOO_LONG
            self._simulation.after(0.001, partial(self._settle, outcome, done))
        elif ask.key in self._answers and not ask.fresh:
            self._simulation.after(0.001, partial(self._settle, Outcome.OK, done))
        elif (flight := self._flights.get(ask.key)) is not None:
            flight.followers.append(done)
        else:
            request = _Request(ask, done, self._simulation.now_s, answer_tokens(ask))
            self._flights[ask.key] = request
            tokenize_s = 0.0015 + ask.prompt.n_tokens / TOKENIZE_TOKENS_PER_S
            self._simulation.after(tokenize_s, partial(self._submit, request))

    def _settle(self, outcome: Outcome, done: Callable[[Outcome], None]) -> None:
        self.report.outcomes[outcome] += 1
        done(outcome)

    def _submit(self, request: _Request) -> None:
        ask, worker = request.ask, self._worker
        n_waiting = len(self._jobs) - len(worker.running)
        self.report.most_waiting = max(self.report.most_waiting, n_waiting)
        if n_waiting >= self._max_waiting:
            self._end(request, Outcome.BUSY)
            return
        tokens = array("I", prompt_tokens(ask.prompt))
        lease = request.lease = self._ram.lease(tokens)
        run = SequenceSpec(tokens, lease.n_cached, lease.state, ask.max_tokens, SamplingParams())
        session = ask.conversation.session_id
        keep = partial(self._keep, ask, lease)
        job = request.job = Job(run, keep, session=session, lease=self._kv.again)
        try:
            worker.room.check(job)
        except PromptTooLong:
            self._end(request, Outcome.TOO_LONG)
            return
        self._count_lookup(ask, lease.n_cached)
        self._engine.expect(run, array("I", request.answer))
        job.work.times.submitted_s = self._simulation.now_s
        request.step = self._engine.n_steps
        self._jobs[job] = request
        worker.inbox.put(Enter(job))
        self._wake()
        if ask.leaves_after_s:
            self._simulation.after(ask.leaves_after_s, partial(self._hang_up, request))

    def _count_lookup(self, ask: Ask, n_known: int) -> None:
        report = self.report
        report.prompt_tokens += ask.prompt.n_tokens
        report.known_tokens += n_known
        report.ever_known_tokens += max(n_known, self._unlimited.find(ask.prompt))

    def _hang_up(self, request: _Request) -> None:
        if not request.is_over and not request.followers and request.job is not None:
            self._worker.inbox.put(Leave(request.job))
            self._wake()
            self._end(request, Outcome.LEFT)

    def _end(self, request: _Request, outcome: Outcome) -> None:
        if request.is_over:
            return
        request.is_over = True
        if self._flights.get(request.ask.key) is request:
            del self._flights[request.ask.key]
        if request.lease is not None:
            request.lease.release()
        if request.job is not None:
            self._jobs.pop(request.job, None)
        # They refer to one another, and to a state.
        request.job = request.lease = None
        if outcome is Outcome.OK and not request.ask.fresh:
            self._answers.add(request.ask.key)
        for done in (request.done, *request.followers):
            self._settle(outcome, done)

    def _tick(self) -> None:
        """What is quiet is quantised if that is wanted, then written, one state after another."""
        self.report.peaks.see(waiting_for_disk=self._ram.waiting.n_bytes)
        due = self._cooling.due() if self._eight_bits else ()
        while due:
            due = self._cooling.quantize(due)
        lease = self._ram.waiting.lease_due()
        if lease is None or lease.block is None:
            self._simulation.after(TICK_S, self._tick)
            return
        parts = unwritten(lease.block, lease.checkpoint)
        wait_s = sum(part.n_bytes for part in parts) / self._engine.machine.disk_bytes_per_s
        self._simulation.after(wait_s, partial(self._written, lease, parts))

    def _written(self, lease: Lease, parts: Sequence[KVPart]) -> None:
        for part in parts:
            part.place = FileRange("made up", 0, part.n_bytes, b"", "")
            self._on_disk.append((part, part.n_bytes))
        self._disk_bytes += sum(part.n_bytes for part in parts)
        while self._disk_bytes > self._engine.machine.disk_bytes:
            oldest, n_bytes = self._on_disk.popleft()
            self._disk_bytes -= n_bytes
            oldest.place = None
            self._ram.tree.forget(oldest)
        lease.release()
        self._tick()

    # The engine thread's side.

    def _wake(self) -> None:
        if not self._turns:
            self._turns = True
            self._simulation.after(0, self._turn)

    def _turn(self) -> None:
        self._engine_s = self._simulation.now_s
        self._worker.turn(alone=False)
        took_s, self._engine_s = self._engine_s - self._simulation.now_s, None
        self._look()
        self._turns = self._worker.busy
        if self._turns:
            self._simulation.after(max(took_s, 1e-4), self._turn)

    def _look(self) -> None:
        ram = self._ram
        self.report.peaks.see(
            stored=ram.n_bytes,
            running=self._engine.running_bytes,
            quantized=ram.tree.n_quantized_bytes,
            between_steps=self.report.meter.held_bytes,
        )

    def _keep(self, ask: Ask, lease: Lease, kept: KVState) -> None:
        prompt, answer = ask.prompt, answer_name(ask)
        self._unlimited.keep(
            (*prompt.parts, answer),
            (*prompt.ends, self._engine.machine.window_tokens),
            len(kept.tokens),
        )
        lease.release()
        self._ram.add(pack(kept.tokens), kept.state, prompt.ends[0], store=True)

    @property
    def n_expected(self) -> int:
        """Nobody is waited for."""
        return 0

    def deliver(self, parcels: list[Parcel]) -> None:
        """Pass on what a step has brought, at the end of it."""
        now_s = self._now_s()
        for job, parcel in parcels:
            request = self._jobs.get(job)
            if request is None:
                continue
            if job.work.n_tokens == 1 and not isinstance(parcel, ServerError):
                self._note_wait(request, job)
            if isinstance(parcel, Done | ServerError):
                outcome = Outcome.OK if isinstance(parcel, Done) else Outcome.FAILED
                self._simulation.at(now_s, partial(self._end, request, outcome))

    def _note_wait(self, request: _Request, job: Job) -> None:
        times, machine = job.work.times, self._engine.machine
        new = len(job.run.tokens) - job.run.n_cached
        self.report.waits.append(
            Wait(
                request.ask.conversation.client.name,
                new,
                times.first_token_s - times.submitted_s,
                machine.pass_s(new) + machine.decode_s,
                self._engine.first_read[job.uid] - request.step,
            )
        )


async def _on_engine(work: Callable[[], object]) -> None:
    """There is one thread only."""
    work()


def memory_day() -> None:
    """The day, in figures."""
    machine = Machine()
    heading(f"Eight simulated hours: {machine.name}")
    report = MemoryDay(HOURS, 1, PEOPLE, machine, Settings()).run()
    print("\n".join(report.lines()), flush=True)
    figure("memory_peak", report.meter.peak_bytes / machine.kv_limit_bytes)
    figure("memory_hits", report.hit_rate / report.best_hit_rate)
    figure("memory_small", part_of(sorted(each.steps for each in report.of_size(0, 512)), 0.9))
