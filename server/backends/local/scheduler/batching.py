"""From sequences to the values that admission and planning decide by, and back. Engine thread."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Mapping

from mlxdeck.server.backends.local.engine.api import Read
from mlxdeck.server.backends.local.scheduler.admission import Candidate, next_place
from mlxdeck.server.backends.local.scheduler.pace import Pace
from mlxdeck.server.backends.local.scheduler.sequence import Sequence
from mlxdeck.server.backends.local.scheduler.step_plan import Reading, StepPlanner


class Batching:
    """Who is let in, and what each step reads."""

    def __init__(self, *, max_batch: int, chunk_tokens: int, budget_tokens: int) -> None:
        self._max_batch = max_batch
        self._chunk_tokens = chunk_tokens
        self._planner = StepPlanner(chunk_tokens, budget_tokens)
        self._pace = Pace()
        self._began_s = 0.0
        self._n_read = 0
        self._decodes = False

    def admit(self, waiting: deque[Sequence], running: Mapping[int, Sequence]) -> Sequence | None:
        """Take the next out of those that wait; None if nobody is let in."""
        place = next_place(
            [Candidate(each.owner, each.left_tokens, each.n_passed) for each in waiting],
            [each.owner for each in running.values()],
            max_batch=self._max_batch,
            short_tokens=self._chunk_tokens,
        )
        if place is None:
            for n, each in enumerate(waiting, 1):
                each.work.position = n
            return None
        job = waiting[place]
        del waiting[place]
        job.work.position = 0
        for each in itertools.islice(waiting, place):
            each.n_passed += 1
        return job

    def plan(self, running: Mapping[int, Sequence], *, expects: bool) -> list[Read]:
        """What the step reads that begins now."""
        readings = [
            Reading(uid, job.left_tokens, job.owner, job.is_begun)
            for uid, job in running.items()
            if job.left_tokens
        ]
        n_decoding = len(running) - len(readings)
        reads = self._planner.plan(readings, n_decoding, self._pace.speeds, expects=expects)
        self._n_read = sum(len(each.uids) * each.n_tokens for each in reads)
        self._decodes = n_decoding > 0
        self._began_s = time.perf_counter()
        return reads

    def done(self) -> None:
        """The step is done: learn from the time that it took."""
        taken_s = time.perf_counter() - self._began_s
        self._pace.observe(taken_s, decodes=self._decodes, read_tokens=self._n_read)
