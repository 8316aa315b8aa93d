"""One model on the engine thread: admits, steps, delivers results, and survives errors.

Every exception on the thread is caught here, by place and not by type. `EngineThread._attempt`
makes every call that may fail, and each place defines the extent of a failure:

    a command, an insert                          that command, that sequence
    keeping a state, reading the memory's figures    that state, that figure
    a step, a removal                             the running sequences; the engine is rebuilt
    unloading the model, loading it again        those that wait for it; the next one tries again

Any other exception is a bug of ours, and counts as a failed step. Waiting sequences have not
touched the engine: they run once it is rebuilt. If the engine can't be rebuilt, it ends. The
scheduler knows all waiting sequences, and sends each an error.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal, TypeVar

from mlxdeck.server.backends.local.engine.api import (
    Engine,
    KVState,
    Memory,
    Prefilled,
    Sampled,
    SamplingParams,
    SequenceSpec,
    Step,
)
from mlxdeck.server.backends.local.scheduler.batching import Batching
from mlxdeck.server.backends.local.scheduler.commands import Command, Enter, Inbox, Leave, Run, Stop
from mlxdeck.server.backends.local.scheduler.delivery import Parcel as Parcel
from mlxdeck.server.backends.local.scheduler.delivery import Told
from mlxdeck.server.backends.local.scheduler.kv_room import KVRoom
from mlxdeck.server.backends.local.scheduler.model_residency import ModelResidency
from mlxdeck.server.backends.local.scheduler.sequence import Done, Piece, Sequence
from mlxdeck.server.backends.local.scheduler.shared_thread import SharedThread
from mlxdeck.server.errors import EngineFailed, one_line

log = logging.getLogger(__name__)

GATHER_S = 0.01
"""How long an idle engine waits for requests that are being prepared, to read them together."""
REBUILD_AFTER_S = (0.0, 0.1, 0.5)
"""Pauses before each attempt to rebuild an engine; after the last the thread ends."""
PROBE_TOKEN = 1
PROBE_STEPS = 8
"""So many steps a rebuilt engine may take to draw one token behind `PROBE_TOKEN`."""

T = TypeVar("T")


class EngineLost(EngineFailed):
    """The engine can't be rebuilt."""


class EngineThread:
    """One engine's turns on the thread. Others put commands into `inbox` and read figures."""

    def __init__(
        self,
        engine: Engine,
        told: Told,
        thread: SharedThread,
        *,
        max_batch: int,
        prefill_chunk_tokens: int,
        step_budget_tokens: int,
    ) -> None:
        self.inbox = Inbox(thread.ring)
        self.activity = thread.activity
        self._thread = thread
        self.running: dict[int, Sequence] = {}
        self.rebuilding = ""
        """Why the engine is being rebuilt; empty if it isn't."""
        self.output_tokens = 0
        self.prefill_tokens = 0
        self.n_rebuilds = 0
        self.n_lost_states = 0
        """States that were computed and could not be kept."""
        self.relieve: Callable[[], object] = lambda: None
        """Frees what memory it can; called if an engine can't be rebuilt at once."""
        self.model = ModelResidency(engine, self._attempt, self.measure)
        self.room = KVRoom(engine, self._attempt)
        self._engine = engine
        self._told = told
        self._batching = Batching(
            max_batch=max_batch, chunk_tokens=prefill_chunk_tokens, budget_tokens=step_budget_tokens
        )
        self._waiting: deque[Sequence] = deque()
        self._open: set[Sequence] = set()
        """All sequences that have entered and have not received an end, in any stage."""
        self._looping: list[Sequence] = []
        self._may_have_strays = False
        """Whether the engine may hold a sequence whose insert failed half-way."""

    @property
    def busy(self) -> bool:
        """Whether there is work besides what the inbox holds."""
        return bool(self.running or self._waiting) or self.model.state == "loading"

    def close(self) -> None:
        """Free everything; never raises."""
        self.model.abandon()
        self._attempt("close", self._engine.close)
        self._let_go()

    def _let_go(self) -> None:
        """Drop all references: the scheduler also knows every waiting client."""
        for held in (self.running, self._waiting, self._open, self._looping):
            held.clear()
        with suppress(queue.Empty):
            while True:
                self.inbox.get_nowait()

    def turn(self, *, alone: bool = True) -> bool:
        """Carry out commands, and do a step; return whether it wasn't asked to stop.

        `alone` is whether the thread has nothing else to do meanwhile.

        Raises:
            EngineLost: The engine can't be rebuilt.
        """
        try:
            if not self._drain():
                return False
            if alone:
                self._gather()
            with self.activity.at("a turn"):
                if self._has_model():
                    self._admit()
                    self._step()
        except EngineLost:
            raise
        # The edge of the thread: an exception here is our own bug, and must not end the thread.
        except BaseException as error:
            log.exception("a fault on the engine thread")
            failure = f"the engine thread failed: {one_line(error)}"
        else:
            return True
        self._rebuild(failure)
        return True

    def unload(self, agree: Callable[[], bool]) -> None:
        """Free the model if no sequence is there and `agree` says so. For a command."""
        if not self._open and self.model.state == "loaded" and agree():
            self.model.unload()

    def _has_model(self) -> bool:
        """Whether the model is loaded; if somebody waits for it, it is loaded by another step."""
        if self.model.state == "unloaded" and not self._waiting:
            return False
        if self.model.state == "loaded":
            return True
        if failure := self.model.load(self._waiting):
            waiting = list(self._waiting)
            self._waiting.clear()
            self._deliver([(job, EngineFailed(failure)) for job in waiting])
        self.measure()
        return False

    def _attempt(self, what: str, work: Callable[[], T]) -> tuple[T | None, str]:
        """Run a call that may fail in any manner; return its result and the error as text.

        The exception itself is not kept: its traceback holds arrays, and memory may be short.
        """
        with self.activity.at(what):
            try:
                return work(), ""
            # The type of an engine's, cache's or library's exception doesn't show the extent of the
            # failure.
            except BaseException as error:
                expected = isinstance(error, EngineFailed) and error.__cause__ is None
                log.error("%s failed: %s", what, error, exc_info=None if expected else error)
                if isinstance(error, EngineFailed):
                    return None, error.message
                return None, f"the model failed: {one_line(error)}"

    def _drain(self) -> bool:
        """Run the commands of the inbox."""
        while True:
            try:
                command = self.inbox.get_nowait()
            except queue.Empty:
                return True
            goes_on = self._do(command)
            if not goes_on or (isinstance(command, Run) and command.before_step and self.running):
                return goes_on

    def _gather(self) -> None:
        """Before an idle engine starts on the first of several requests, wait for the others."""
        until_s = time.monotonic() + GATHER_S
        while self._waiting and self._told.n_expected and not self.running:
            try:
                command = self.inbox.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                return
            if not self._do(command):
                self.inbox.put(command)
                return

    def _do(self, command: Command) -> bool:
        """Carry out a command; False is to stop."""
        match command:
            case Enter(job):
                self._open.add(job)
                self._waiting.append(job)
            case Leave(job):
                self._leave(job)
            case Run(work, ended):
                _, failure = self._attempt("a command", work)
                ended(failure)
            case Stop():
                return False
        return True

    def _admit(self) -> None:
        if (job := self._batching.overstays(self._waiting, self.running)) is not None:
            self._make_wait(job)
        fits = self.room.fits
        while (job := self._batching.admit(self._waiting, self.running, fits)) is not None:
            spec, failure = self._attempt("a lease", job.let_in)
            uid = None
            if spec is not None:
                uid, failure = self._attempt("insert", partial(self._engine.insert, spec))
            if uid is None:
                self._may_have_strays = True
                self._deliver([(job, EngineFailed(failure))])
                continue
            job.uid = uid
            self.running[uid] = job

    def _make_room(self) -> None:
        """Caches give way; then whoever came last waits again, or ends if it is the only one."""
        while (job := self.room.last_in(self.running.values())) is not None:
            if len(self.running) == 1:
                self._cut(job, "length")
                return
            self._make_wait(job)

    def _make_wait(self, job: Sequence) -> None:
        """Take away its place; it goes on later."""
        kept = self._remove(job.uid)
        if job not in self._open:
            return
        if job.wait_again(kept):
            self._waiting.appendleft(job)
        else:
            self._deliver([(job, EngineFailed("the state of the answer is lost"))])
        self._keep(job, kept)

    def _step(self) -> None:
        self._make_room()
        # A stray is found by a step, and may not stay in an idle engine.
        if not (self.running or self._may_have_strays):
            return
        reads = self._batching.plan(self.running, expects=self._told.n_expected > 0)
        # A step that reads of all prompts also tells of those that it should not have.
        asked = None if self._may_have_strays else reads
        self._may_have_strays = False
        steps, failure = self._attempt("a step", partial(self._engine.step, asked))
        if steps is None:
            self._rebuild(failure)
            return
        self._batching.done()
        self.measure()
        self._deliver([parcel for step in steps for parcel in self._account(step)])
        while self._looping:
            self._cut(self._looping.pop(), "loop")

    def measure(self) -> Memory:
        """Take down what memory the device holds."""
        memory, _ = self._attempt("reading the memory's figures", self._engine.memory)
        self._thread.memory = memory or self._thread.memory
        return self._thread.memory

    def _account(self, step: Step) -> list[Parcel]:
        job = self.running.get(step.uid)
        if job is None:
            # An insert that failed half-way; the client already has its error.
            self._remove(step.uid)
            return []
        if isinstance(step, Prefilled):
            self.prefill_tokens += step.done_tokens - job.n_prefilled
            job.n_prefilled = step.done_tokens
            job.work.read_tokens = min(step.done_tokens, len(job.run.tokens))
            self._keep(job, step.kept)
            return []
        # Of a step of several tokens, those behind the loop are not told any more.
        return [] if job in self._looping else self._account_token(job, step)

    def _account_token(self, job: Sequence, step: Sampled) -> list[Parcel]:
        now_s = time.monotonic()
        if step.finish:
            del self.running[step.uid]
            job.work.times.finished_s = now_s
        if step.finish == "failed":
            if job.spoil:
                self._attempt("dropping a state", job.spoil)
            return [(job, EngineFailed(f"the model failed: {step.why}"))]
        job.drew(step, now_s)
        self.output_tokens += 1
        parcels: list[Parcel] = []
        if step.finish == "broken":
            job.work.let_go = step.why
            return [
                (job, EngineFailed(f"the answer left the grammar that constrains it: {step.why}"))
            ]
        if step.text:
            parcels.append((job, Piece(step.text, job.work.n_tokens)))
        if step.finish is None and job.guard and job.guard.feed(step.token):
            self._looping.append(job)
        if step.finish:
            self._keep(job, step.kept)
            parcels.append((job, Done(step.finish)))
        return parcels

    def _keep(self, job: Sequence, kept: KVState | None) -> None:
        """Hand a state to the caches; if they can't take it, it is lost and nothing else is."""
        if kept is None:
            return
        self.room.look_again()
        _, failure = self._attempt("keeping a state", partial(job.keep, kept))
        if failure:
            self.n_lost_states += 1

    def _leave(self, job: Sequence) -> None:
        self._open.discard(job)
        if job in self._waiting:
            self._waiting.remove(job)
        elif self.running.get(job.uid) is job:
            self._keep(job, self._remove(job.uid))

    def _cut(self, job: Sequence, why: Literal["loop", "length"]) -> None:
        """End a sequence as its token limit would."""
        if self.running.get(job.uid) is not job:
            return
        job.work.times.finished_s = time.monotonic()
        self._deliver([(job, Done(why))])
        self._keep(job, self._remove(job.uid))

    def _remove(self, uid: int) -> KVState | None:
        self.running.pop(uid, None)
        kept, failure = self._attempt("a removal", partial(self._engine.remove, uid))
        if failure:
            self._rebuild(failure)
        return kept

    def _rebuild(self, failure: str) -> None:
        """Fail the running sequences, and start the engine again; waiting sequences keep waiting.

        Raises:
            EngineLost: It doesn't start, or samples no token.
        """
        log.error("the engine is rebuilt: %s", failure)
        self.rebuilding = failure
        # By the open set, not by stage: this includes sequences between two stages.
        waiting = set(self._waiting)
        self.running.clear()
        self._looping.clear()
        self._deliver([(job, EngineFailed(failure)) for job in self._open - waiting])
        if self.model.state != "loaded":
            self.model.unload()  # Who waits has it loaded anew.
            self.rebuilding = ""
            return
        for pause_s in REBUILD_AFTER_S:
            time.sleep(pause_s)
            _, failure = self._attempt("rebuilding the engine", self._start_anew)
            if not failure:
                self.n_rebuilds += 1
                self.rebuilding = ""
                return
            # Memory may be what lacks: what is cached can be computed again.
            self._attempt("making room", self.relieve)
        raise EngineLost(failure)

    def _start_anew(self) -> None:
        """Reset the engine, and see that it still draws a token."""
        self._engine.reset()
        uid = self._engine.insert(SequenceSpec([PROBE_TOKEN], 0, None, 1, SamplingParams()))
        for _ in range(PROBE_STEPS):
            for step in self._engine.step():
                if isinstance(step, Sampled) and step.uid == uid and step.finish:
                    if step.why:
                        raise EngineFailed(step.why)
                    return
        raise EngineFailed("the model samples no token")

    def _deliver(self, parcels: list[Parcel]) -> None:
        if parcels:
            self._open -= {job for job, parcel in parcels if not isinstance(parcel, Piece)}
            self._told.deliver(parcels)
