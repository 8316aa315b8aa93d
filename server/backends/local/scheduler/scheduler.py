"""The engine thread: admits jobs, steps the model, delivers what it says, cancels and recovers.

Other threads talk to it through an inbox; it talks back to the event loop with one
`call_soon_threadsafe` a step. A job ends by `Done`, by an error, or by leaving the block of
`submit`, which is how disconnects, time-outs and errors above all cancel: whatever the job had
computed is handed to `keep`.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from mlxdeck.server.backends.local.engine.api import Engine, ModelInfo, Prefilled, Progress, Step
from mlxdeck.server.backends.local.scheduler.sequence import Chunk, Done, Piece, Sequence, Waiting
from mlxdeck.server.errors import EngineFailed, Overloaded, ServerError, one_line

log = logging.getLogger(__name__)

STOP_S = 30.0
GATHER_S = 0.01
"""How long an idle engine waits for requests that are being prepared, to read them together."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine is doing for everyone together."""

    active: int
    queued: int
    output_tokens: int
    """Drawn since the start."""
    prefill_tokens: int
    """Computed since the start."""


class Scheduler:
    """Runs an engine on a thread of its own.

    What comes first here is for the event loop; what stands under the line "the engine thread"
    runs there, and is the only part that touches waiting and running jobs.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch: int,
        max_waiting: int,
        prefill_chunk_tokens: int,
        ping_s: float,
        stall_s: float,
    ) -> None:
        self._engine = engine
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._prefill_chunk_tokens = prefill_chunk_tokens
        self._ping_s = ping_s
        self._stall_s = stall_s
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}
        self._looping: list[Sequence] = []
        self._output_tokens = 0
        self._prefill_tokens = 0
        self._beat_s = time.monotonic()
        self._failure: EngineFailed | None = None
        self._is_loaded = False
        self._n_expected = 0
        self.memory = engine.memory()
        """As of the last step."""

    def start(self, progress: Progress, loaded: Callable[[ModelInfo], None]) -> None:
        """Start the thread and load the model on it.

        Both callbacks run on the engine thread. `ready` is done once `loaded` has returned; it
        raises `EngineFailed` if anything at all goes wrong before that.
        """
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._main, args=(progress, loaded), name="engine", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after the step it is in; jobs still running fail.

        A model that is still being fetched or loaded is not waited for: `alive` tells.
        """
        self._inbox.put(None)
        if self._is_loaded:
            await asyncio.to_thread(self._thread.join, STOP_S)

    @property
    def alive(self) -> bool:
        """Whether the engine thread still runs; it may be anywhere in the library's code."""
        return hasattr(self, "_thread") and self._thread.is_alive()

    @property
    def healthy(self) -> bool:
        """Whether a job that is submitted now can be expected to run."""
        return self._failure is None and self._thread.is_alive() and not self._stalled()

    @property
    def status(self) -> Load:
        """A snapshot; figures of one step may be mixed with the next one's."""
        queued = len(self._waiting) + self._inbox.qsize()
        return Load(len(self._running), queued, self._output_tokens, self._prefill_tokens)

    async def run(self, work: Callable[[], object]) -> None:
        """Have something done on the engine thread, between two steps.

        For what may free arrays of the engine's; it must not raise.

        Raises:
            EngineFailed: The engine is down.
        """
        if self._failure:
            raise self._failure
        done = self._loop.create_future()

        def finish() -> None:
            # Who waited may have left meanwhile: then it is cancelled.
            if not done.done():
                done.set_result(None)

        def command() -> None:
            work()
            self._on_loop(finish)

        self._inbox.put(command)
        await done

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Say that a job is being prepared; an idle engine then waits a moment for it."""
        self._n_expected += 1
        try:
            yield
        finally:
            self._n_expected -= 1

    @asynccontextmanager
    async def submit(self, job: Sequence) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Queue a job at once, and receive its answer inside the block; leaving it cancels.

        Raises:
            Overloaded: Too many are waiting.
            EngineFailed: The engine is down.
        """
        if self._failure:
            raise self._failure
        now = self.status
        if now.queued >= self._max_waiting + max(0, self._max_batch - now.active):
            raise Overloaded(f"{now.queued} requests are waiting already")
        job.times.submitted_s = time.monotonic()
        self._inbox.put(lambda: self._waiting.append(job))
        chunks = self._receive(job)
        try:
            yield chunks
        finally:
            await chunks.aclose()
            if not job.times.finished_s:
                job.times.finished_s = time.monotonic()
                self._inbox.put(lambda: self._cancel(job))

    async def _receive(self, job: Sequence) -> AsyncGenerator[Chunk]:
        while True:
            try:
                chunk = await asyncio.wait_for(job.chunks.get(), self._ping_s)
            except TimeoutError:
                if self._stalled():
                    raise EngineFailed(
                        f"the model made no progress for {self._stall_s:.0f} s"
                    ) from None
                yield Waiting()
                continue
            if isinstance(chunk, ServerError):
                raise chunk
            yield chunk
            if isinstance(chunk, Done):
                return

    def _stalled(self) -> bool:
        busy = bool(self._running or self._waiting)
        return busy and time.monotonic() - self._beat_s > self._stall_s

    # From here on: the engine thread.

    def _main(self, progress: Progress, loaded: Callable[[ModelInfo], None]) -> None:
        if not self._load(progress, loaded):
            return
        try:
            while self._drain():
                self._gather()
                self._admit()
                self._step()
        finally:
            # Also when this thread dies of a bug: nobody may wait for ever.
            self._failure = EngineFailed("the engine has stopped")
            self._fail_all(self._failure)
            self._engine.close()

    def _load(self, progress: Progress, loaded: Callable[[ModelInfo], None]) -> bool:
        try:
            loaded(self._engine.load(progress))
            self.memory = self._engine.memory()
        # The thread's edge: whatever a model's files or a library raise, who waits is told.
        except BaseException as error:
            log.debug("loading failed", exc_info=error)
            failure = error if isinstance(error, EngineFailed) else EngineFailed(one_line(error))
            self._failure = failure
            self._on_loop(lambda: self._settle(failure))
            return False
        self._is_loaded = True
        self._on_loop(lambda: self._settle(None))
        return True

    def _settle(self, failure: EngineFailed | None) -> None:
        if self.ready.done():
            return  # Cancelled: the server is being stopped.
        if failure is None:
            self.ready.set_result(None)
        else:
            self.ready.set_exception(failure)

    def _drain(self) -> bool:
        """Run what the inbox holds, waiting for it when there is nothing else to do."""
        while True:
            busy = bool(self._running or self._waiting)
            try:
                command = self._inbox.get(block=not busy)
            except queue.Empty:
                return True
            if command is None:
                return False
            self._beat_s = time.monotonic()
            command()

    def _gather(self) -> None:
        """Before an idle engine starts on the first of several requests, let the others come."""
        until_s = time.monotonic() + GATHER_S
        while self._waiting and self._n_expected and not self._running:
            try:
                command = self._inbox.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                return
            if command is None:
                self._inbox.put(None)
                return
            command()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_batch:
            if not self._fits(self._waiting[0]):
                return
            job = self._waiting.popleft()
            job.times.admitted_s = time.monotonic()
            job.n_prefilled = job.run.n_cached
            try:
                job.uid = self._engine.insert(job.run)
            except EngineFailed as error:
                self._deliver([(job, error)])
                continue
            self._running[job.uid] = job

    def _fits(self, job: Sequence) -> bool:
        """Whether a job may be read together with those that are being read.

        The engine pads all chunks of a step to the longest, so a step costs their number times
        that length; twice a chunk is what the others are made to wait for their next token.
        Many short prompts go together, a short one beside a long one, long ones in turn.
        """
        chunk = self._prefill_chunk_tokens
        left = [len(each.run.tokens) - each.n_prefilled for each in self._running.values()]
        reading = [min(n, chunk) for n in left if n > 0]
        longest = max([*reading, min(len(job.run.tokens) - job.run.n_cached, chunk)])
        return not reading or (len(reading) + 1) * longest <= 2 * chunk

    def _step(self) -> None:
        if not self._running:
            return
        try:
            steps = self._engine.step()
        except EngineFailed as error:
            self._rebuild(error)
            return
        self._beat_s = time.monotonic()
        self.memory = self._engine.memory()
        self._deliver([parcel for step in steps for parcel in self._account(step)])
        while self._looping:
            self._cut(self._looping.pop())

    def _account(self, step: Step) -> list[tuple[Sequence, Chunk | ServerError]]:
        job = self._running[step.uid]
        if isinstance(step, Prefilled):
            self._prefill_tokens += step.done_tokens - job.n_prefilled
            job.n_prefilled = step.done_tokens
            if step.kept:
                job.keep(step.kept)
            return []
        now_s = time.monotonic()
        if not job.n_tokens:
            job.times.first_token_s = now_s
        job.n_tokens += 1
        self._output_tokens += 1
        parcels: list[tuple[Sequence, Chunk | ServerError]] = []
        if step.finish == "broken":
            del self._running[step.uid]
            job.times.finished_s, job.let_go = now_s, step.why
            return [(job, EngineFailed(f"the answer left what it is held to: {step.why}"))]
        if step.text:
            parcels.append((job, Piece(step.text)))
        if step.finish is None and job.guard and job.guard.feed(step.token):
            self._looping.append(job)
        if step.finish:
            del self._running[step.uid]
            job.times.finished_s = now_s
            if step.kept:
                job.keep(step.kept)
            parcels.append((job, Done(step.finish)))
        return parcels

    def _cancel(self, job: Sequence) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
        elif self._running.get(job.uid) is job:
            self._remove(job)

    def _cut(self, job: Sequence) -> None:
        """End a sequence that goes round in circles, as its limit would."""
        job.times.finished_s = time.monotonic()
        self._deliver([(job, Done("loop"))])
        self._remove(job)

    def _remove(self, job: Sequence) -> None:
        del self._running[job.uid]
        try:
            kept = self._engine.remove(job.uid)
        except EngineFailed as error:
            self._rebuild(error)
            return
        if kept:
            job.keep(kept)

    def _rebuild(self, error: EngineFailed) -> None:
        log.error("the engine failed and is rebuilt", exc_info=error)
        self._fail_all(error)
        self._engine.reset()

    def _fail_all(self, error: EngineFailed) -> None:
        jobs = [*self._running.values(), *self._waiting]
        self._running.clear()
        self._waiting.clear()
        self._deliver([(job, error) for job in jobs])

    def _deliver(self, parcels: list[tuple[Sequence, Chunk | ServerError]]) -> None:
        if parcels:
            self._on_loop(lambda: _hand_over(parcels))

    def _on_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            log.debug("the event loop is closed; nobody is left to tell")


def _hand_over(parcels: list[tuple[Sequence, Chunk | ServerError]]) -> None:
    for job, parcel in parcels:
        job.chunks.put_nowait(parcel)
