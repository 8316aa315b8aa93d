"""The engine's interface for the event loop: each request ends with an answer or an error.

`EngineThread` does the work. It receives commands through an inbox, and sends results with one
`call_soon_threadsafe` a step. A job ends by `Done`, by an error, or by leaving the block of
`submit`. Disconnects, time-outs and errors above all cancel by leaving that block. The job's
computed state then goes to `keep`.

The scheduler knows every waiting client. If the thread ends, or makes no progress, each gets its
own exception. `lost` reports an engine that does not return.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from mlxdeck.server.backends.base import Health
from mlxdeck.server.backends.local.activity import LoadWatch, StallWatch
from mlxdeck.server.backends.local.engine.api import Engine, Memory, ModelInfo, Progress
from mlxdeck.server.backends.local.scheduler.commands import Enter, Leave, Run, Stop
from mlxdeck.server.backends.local.scheduler.engine_thread import EngineThread, Parcel
from mlxdeck.server.backends.local.scheduler.model_residency import ModelResidency
from mlxdeck.server.backends.local.scheduler.sequence import Chunk, Done, Sequence, Waiting
from mlxdeck.server.backends.local.scheduler.shared_thread import SharedThread
from mlxdeck.server.errors import EngineFailed, Overloaded, ServerError, one_line
from mlxdeck.server.load import Load

log = logging.getLogger(__name__)

STOP_S = 5.0
"""How long a step that runs is waited for at the end."""
STOPPED = "the engine has stopped"
RESIDENCY = {
    "loaded": "",
    "loading": "the model is being loaded again",
    "unloaded": "the model is unloaded while nobody asks; the next request loads it",
}
"""What there is to say of an engine that is well."""


class _Chunks:
    """The output of a job, up to its `Done`; `Waiting` after some time without output."""

    def __init__(self, job: Sequence, ping_s: float) -> None:
        self._job = job
        self._ping_s = ping_s
        self._is_over = self._is_awaited = False
        self._loop = asyncio.get_running_loop()
        self._since_s = self._loop.time()
        # One for all of an answer: a time limit for each token costs more than the token.
        self._timer = self._loop.call_later(ping_s, self._look)

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> Chunk:
        """Raises `ServerError` if the job has failed."""
        if self._is_over:
            raise StopAsyncIteration
        self._since_s, self._is_awaited = self._loop.time(), True
        try:
            chunk = await self._job.chunks.get()
        finally:
            self._is_awaited = False
        if isinstance(chunk, ServerError):
            raise chunk
        self._is_over = isinstance(chunk, Done)
        return chunk

    def _look(self) -> None:
        left_s = self._since_s + self._ping_s - self._loop.time()
        if left_s <= 0:
            left_s = self._ping_s
            if self._is_awaited:
                self._job.chunks.put_nowait(Waiting())
        self._timer = self._loop.call_later(left_s, self._look)

    def close(self) -> None:
        """Nobody receives any more."""
        self._timer.cancel()


class Scheduler:
    """Runs an engine on the engine thread. For the event loop, except where it says so."""

    def __init__(
        self,
        engine: Engine,
        thread: SharedThread | None = None,
        *,
        max_batch: int,
        max_waiting: int,
        prefill_chunk_tokens: int,
        step_budget_tokens: int = 0,
        ping_s: float,
        stall_s: float,
    ) -> None:
        """Without a `thread`, the engine has one to itself."""
        self._engine = engine
        self._thread = thread or SharedThread()
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._ping_s = ping_s
        self._worker = EngineThread(
            engine,
            self,
            self._thread,
            max_batch=max_batch,
            prefill_chunk_tokens=prefill_chunk_tokens,
            step_budget_tokens=step_budget_tokens,
        )
        self._open: set[Sequence] = set()
        """Sequences whose block has not been left."""
        self._commands: set[asyncio.Future[None]] = set()
        """Futures of the callers of `run`."""
        self._failure = ""
        """Why the thread has ended permanently."""
        self._watch = StallWatch(
            self._thread.activity, stall_s, tell=self._fail_all, give_up=self.give_up
        )
        self._load_watch = LoadWatch(stall_s, lambda reason: self._end(reason, is_lost=True))
        self._is_loaded = self._has_begun = False
        self._used_s = time.monotonic()
        self.n_expected = 0
        """How many sequences are being prepared; an idle engine waits a moment for them."""

    def start(self, progress: Progress, loaded: Callable[[ModelInfo], None]) -> None:
        """Start the thread and load the model on it.

        Both callbacks run on the engine thread. `ready` is done once `loaded` has returned; it
        raises `EngineFailed` if anything at all goes wrong before that.
        """
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done, with the reason, when the engine won't serve again in this process."""
        self._ended = asyncio.Event()
        self._progress, self._when_loaded = progress, loaded
        self._has_begun = True
        self._thread.enter(self)
        self._watch.start()
        watching = asyncio.create_task(self._load_watch.run())
        self.ready.add_done_callback(lambda _: watching.cancel())

    async def stop(self) -> None:
        """Fail the jobs that still run, and end the thread after the current step.

        It doesn't wait for a model that is still being loaded, nor for an engine that hangs: see
        `alive`. If the engine was never started, there is nothing to end.
        """
        if not self._has_begun:
            return
        self._watch.stop()
        self._worker.inbox.put(Stop())
        self._failure = self._failure or STOPPED
        self._fail_all(STOPPED)
        if self._is_loaded and not self._watch.stalled:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._ended.wait()

    @property
    def alive(self) -> bool:
        """Whether the engine thread still runs; it may be anywhere in the library's code."""
        return self._thread.alive

    @property
    def health(self) -> Health:
        """How the engine is."""
        if reason := self._failure or self._watch.stalled:
            return Health("unhealthy", reason)
        if reason := self._worker.rebuilding:
            return Health("rebuilding", reason)
        if not self._is_loaded:
            return Health("loading")
        return Health("healthy", RESIDENCY[self._worker.model.state])

    @property
    def healthy(self) -> bool:
        """Whether a job that is submitted now can be expected to run."""
        return self.health.state == "healthy"

    @property
    def status(self) -> Load:
        """A snapshot; figures of one step may be mixed with the next one's."""
        waiting = (each.work.times for each in self._open)
        queued = sum(not times.admitted_s or times.paused_s > 0 for times in waiting)
        worker = self._worker
        return Load(
            len(worker.running),
            queued,
            worker.output_tokens,
            worker.prefill_tokens,
            max_active=self._max_batch,
            max_queued=self._max_waiting,
        )

    @property
    def memory(self) -> Memory:
        """As of the last step of any model."""
        return self._thread.memory

    @property
    def model(self) -> ModelResidency:
        """Whether the model is in memory, and how often it was loaded."""
        return self._worker.model

    @property
    def idle_s(self) -> float:
        """How long there has been no sequence, and none in preparation."""
        is_idle = not (self._open or self.n_expected)
        return time.monotonic() - self._used_s if is_idle else 0.0

    def touch(self) -> None:
        """Count from now on how long there has been none."""
        self._used_s = time.monotonic()

    async def unload(self, agree: Callable[[], bool]) -> None:
        """Free the model, unless there is a sequence; the next one has it loaded again.

        `agree` is called on the engine thread; it frees what else there is, or says no.

        Raises:
            EngineFailed: `agree` failed, or the engine is down.
        """
        await self.run(lambda: self._worker.unload(agree))

    def relieve_by(
        self, relieve: Callable[[], object], give_way: Callable[[int], int] = lambda n_bytes: 0
    ) -> None:
        """Have `relieve` called, on the engine thread, if an engine can't be rebuilt at once.

        `give_way` frees so many bytes, if it can, for a sequence more; it returns how many.
        """
        self._worker.relieve = relieve
        self._worker.room.give_way = give_way

    def free_bytes(self) -> int:
        """What may be taken of the device's memory, measured anew. Engine thread."""
        return self._worker.room.free_bytes()

    @property
    def n_rebuilds(self) -> int:
        """How often the engine was rebuilt after a fault."""
        return self._worker.n_rebuilds

    @property
    def n_lost_states(self) -> int:
        """How many states were computed and could not be kept."""
        return self._worker.n_lost_states

    async def run_before_step(self, work: Callable[[], object]) -> None:
        """The same for one of many that take a while: running sequences get a step in between."""
        await self.run(work, before_step=True)

    async def run(self, work: Callable[[], object], *, before_step: bool = False) -> None:
        """Run something on the engine thread, between two steps.

        For work that may make or free arrays of the engine. With `before_step`, running sequences
        get a step before anything else is run.

        Raises:
            EngineFailed: It raised any exception, or the engine is down.
        """
        self._check()
        done = self._loop.create_future()

        def settle(failure: str) -> None:
            if done.done():
                return  # The caller has left, or has its result.
            if failure:
                done.set_exception(EngineFailed(failure))
            else:
                done.set_result(None)

        self._commands.add(done)
        self._worker.inbox.put(
            Run(work, lambda failure: self._on_loop(lambda: settle(failure)), before_step)
        )
        try:
            await done
        finally:
            self._commands.discard(done)

    def _check(self) -> None:
        # A new exception each time: one that is raised again and again collects tracebacks.
        if reason := self._failure or self._watch.stalled:
            raise EngineFailed(reason)

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Say that a job is being prepared; an idle engine then waits a moment for it."""
        self.n_expected += 1
        try:
            yield
        finally:
            self.n_expected -= 1

    @asynccontextmanager
    async def submit(self, job: Sequence) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Queue a job at once, and receive its answer inside the block; leaving it cancels.

        Raises:
            Overloaded: Too many are waiting.
            PromptTooLong: The memory is too small for it.
            EngineFailed: The engine is down.
        """
        self._check()
        self._worker.room.check(job)
        now = self.status
        n_queued = now.queued or 0
        if n_queued >= self._max_waiting + max(0, self._max_batch - now.active):
            raise Overloaded(f"{n_queued} requests are waiting already")
        job.work.times.submitted_s = time.monotonic()
        self._open.add(job)
        self._worker.inbox.put(Enter(job))
        chunks = _Chunks(job, self._ping_s)
        try:
            yield chunks
        finally:
            chunks.close()
            self._open.discard(job)
            self.touch()
            if not job.work.times.finished_s:
                job.work.times.finished_s = time.monotonic()
                if not self._failure:
                    self._worker.inbox.put(Leave(job))

    def _fail_all(self, reason: str) -> None:
        """Send an error to every waiting client, each with its own exception."""
        for job in self._open:
            job.chunks.put_nowait(EngineFailed(reason))
        for command in self._commands:
            if not command.done():
                command.set_exception(EngineFailed(reason))

    def give_up(self, reason: str) -> None:
        """Say that this process won't serve again."""
        if not self.lost.done():
            log.critical("the engine is lost: %s", reason)
            self.lost.set_result(reason)

    def deliver(self, parcels: list[Parcel]) -> None:
        """Pass on the results of sequences. Engine thread."""
        self._on_loop(lambda: _hand_over(parcels))

    def begin(self) -> None:
        """Load the model. Engine thread."""
        model = self._engine.load(self._progress)
        self._when_loaded(model)
        self._worker.room.loaded(model)
        self._worker.measure()
        self._on_loop(self._loaded)

    def turn(self, *, alone: bool) -> bool:
        """Carry out commands, and do a step. Engine thread."""
        return self._worker.turn(alone=alone)

    @property
    def busy(self) -> bool:
        """Whether there is a step to do. Engine thread."""
        return self._worker.busy

    def end(self, error: BaseException | None) -> None:
        """Free the engine, and tell every waiting client. Engine thread."""
        self._worker.close()
        reason = STOPPED if error is None else one_line(error)
        self._on_loop(lambda: self._end(reason, is_lost=error is not None))

    def _loaded(self) -> None:
        self._is_loaded = True
        if not self.ready.done():
            self.ready.set_result(None)

    def _end(self, reason: str, *, is_lost: bool) -> None:
        self._failure = self._failure or reason
        self._fail_all(reason)
        self._ended.set()
        if self._is_loaded and is_lost:
            self.give_up(reason)
        if not self.ready.done():  # It may have been cancelled: the server is stopping.
            self.ready.set_exception(EngineFailed(reason))

    def _on_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            log.debug("the event loop is closed; nobody is left to tell")


def _hand_over(parcels: list[Parcel]) -> None:
    for job, parcel in parcels:
        job.chunks.put_nowait(parcel)
