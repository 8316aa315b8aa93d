"""From sequences to the values that admission and planning decide by, and back. Engine thread."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from mlxdeck.server.backends.local.engine.api import Read
from mlxdeck.server.backends.local.scheduler.admission import (
    EXTRA_TOKENS,
    MAX_PASSED,
    Candidate,
    Place,
    needs_extra,
    next_place,
)
from mlxdeck.server.backends.local.scheduler.pace import Pace
from mlxdeck.server.backends.local.scheduler.sequence import Sequence
from mlxdeck.server.backends.local.scheduler.step_plan import (
    FRESH_TOKENS,
    Reading,
    StepPlanner,
)

Fits = Callable[[Sequence, Iterable[Sequence]], bool]
"""Whether there is memory for a sequence beside others."""


OTHERS = "its turn, as others are read or written"
"""What a prompt waits for that has a place."""


def _seen(
    waiting: Iterable[Sequence], running: Mapping[int, Sequence]
) -> tuple[list[Candidate], list[Place]]:
    """What the rules of admission look at."""
    return (
        [
            Candidate(each.owner, each.left_tokens, each.n_passed, each.rest is None)
            for each in waiting
        ],
        [Place(each.owner, each.is_extra) for each in running.values()],
    )


def _written_in_place(job: Sequence) -> int:
    return job.work.n_tokens - job.spec.n_written


class Batching:
    """Who is let in, and what each step reads."""

    def __init__(self, *, max_batch: int, chunk_tokens: int, budget_tokens: int) -> None:
        self._next_place = partial(next_place, max_batch=max_batch, short_tokens=chunk_tokens)
        self._needs_extra = partial(needs_extra, max_batch=max_batch, short_tokens=chunk_tokens)
        self._planner = StepPlanner(chunk_tokens, budget_tokens)
        self._pace = Pace()
        self._began_s = 0.0
        self._n_read = 0
        self._decodes = False

    def admit(
        self, waiting: deque[Sequence], running: Mapping[int, Sequence], fits: Fits
    ) -> Sequence | None:
        """Take the next out of those that wait; None if nobody is let in."""
        if not waiting:
            return None
        left, without_room = list(waiting), set[Sequence]()
        while (choice := self._next_place(*_seen(left, running))) is not None:
            job = left.pop(choice.index)
            if fits(job, running.values()):
                job.is_extra = choice.is_extra
                self._let_in(job, waiting)
                return job
            without_room.add(job)
            if job.n_passed >= MAX_PASSED:
                break
        for n, each in enumerate(waiting, 1):
            each.work.position = n
            each.work.waits_for = "memory" if each in without_room else "a place in the batch"
        return None

    def overstays(
        self, waiting: deque[Sequence], running: Mapping[int, Sequence]
    ) -> Sequence | None:
        """Who has to give up an extra place, as others need it; who has written most in it."""
        if not waiting or not self._needs_extra(*_seen(waiting, running)):
            return None
        extra = [each for each in running.values() if each.is_extra and not each.left_tokens]
        longest = max(extra, key=_written_in_place, default=None)
        enough = longest is not None and _written_in_place(longest) >= EXTRA_TOKENS
        return longest if enough else None

    def _let_in(self, job: Sequence, waiting: deque[Sequence]) -> None:
        for each in itertools.islice(waiting, waiting.index(job)):
            each.n_passed += 1
        waiting.remove(job)
        job.work.position, job.work.waits_for = 0, ""

    def plan(self, running: Mapping[int, Sequence], *, expects: bool) -> list[Read]:
        """What the step reads that begins now."""
        readings = [
            Reading(uid, job.left_tokens, job.owner, job.is_begun)
            for uid, job in running.items()
            if job.left_tokens
        ]
        n_decoding = len(running) - len(readings)
        is_fresh = any(
            not job.left_tokens and job.work.n_tokens <= FRESH_TOKENS for job in running.values()
        )
        reads = self._planner.plan(
            readings, n_decoding, self._pace.speeds, expects=expects, is_fresh=is_fresh
        )
        now = {uid for each in reads for uid in each.uids}
        for each in readings:
            running[each.uid].work.waits_for = "" if each.uid in now else OTHERS
        self._n_read = sum(len(each.uids) * each.n_tokens for each in reads)
        self._decodes = n_decoding > 0
        self._began_s = time.perf_counter()
        return reads

    def done(self) -> None:
        """The step is done: learn from the time that it took."""
        taken_s = time.perf_counter() - self._began_s
        self._pace.observe(taken_s, decodes=self._decodes, read_tokens=self._n_read)
