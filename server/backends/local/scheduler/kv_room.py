"""Room for the KV caches of sequences: caches give way, then whoever came last waits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from mlxdeck.server.backends.local.engine.api import Engine, ModelInfo, Room
from mlxdeck.server.backends.local.scheduler.kv_budget import Demand, KVBudget
from mlxdeck.server.backends.local.scheduler.model_residency import Attempt
from mlxdeck.server.backends.local.scheduler.sequence import Sequence
from mlxdeck.server.errors import PromptTooLong

LOOK_STEPS = 16
"""So often it is looked whether those that run still have room, if nothing is stored meanwhile."""


class KVRoom:
    """Of one engine. Engine thread, but for `check`."""

    def __init__(self, engine: Engine, attempt: Attempt) -> None:
        self._engine = engine
        self._attempt = attempt
        self._budget = KVBudget()
        self._n_left = 0
        """Steps until the next look at those that run."""
        self._refused: tuple[Sequence, frozenset[int]] | None = None
        """Who had no room, beside whom: no need to look again until that changes."""
        self.give_way: Callable[[int], int] = lambda n_bytes: 0
        """Frees so many bytes of cached states, if it can; returns how many it has freed."""

    def loaded(self, model: ModelInfo) -> None:
        """A model is there. Caches are still empty."""
        room = self._room()
        self._budget = KVBudget(model.kv_cost, room.most_bytes if room else 0)

    def check(self, job: Sequence) -> None:
        """Refuse what can never fit. Any thread.

        Raises:
            PromptTooLong: Its prompt alone takes more than there is.
        """
        n_tokens = len(job.run.tokens)
        if n_tokens > (most := self._budget.most_tokens(n_tokens)):
            raise PromptTooLong(n_tokens, most)

    def fits(self, job: Sequence, running: Iterable[Sequence]) -> bool:
        """Whether it may be let in beside those that run. If none does, it may try."""
        beside = list(running)
        uids = frozenset(each.uid for each in beside)
        if not self._budget.is_known:
            return True
        if self._refused == (job, uids):
            return False
        lacking = self._lacking([_demand(job), *map(_demand, beside)])
        self._refused = (job, uids) if beside and lacking > 0 else None
        return self._refused is None

    def look_again(self) -> None:
        """Something was stored: it may lie where those that run are to grow."""
        self._n_left = 0

    def last_in(self, running: Iterable[Sequence]) -> Sequence | None:
        """The sequence that has to give up its place, as there is no memory for the next steps.

        Caches give way first. Looks every few steps.
        """
        self._n_left -= 1
        if self._n_left > 0 or not self._budget.is_known:
            return None
        beside = list(running)
        if not beside:
            return None
        # No more than that: what is stored may save somebody a prompt.
        if self._lacking([_demand(each).near() for each in beside]) <= 0:
            self._n_left = LOOK_STEPS
            return None
        if len(beside) == 1 and beside[0].left_tokens:
            # Its prompt alone fits, or it would have been refused.
            return None
        return max(beside, key=lambda each: each.work.times.submitted_s)

    def _lacking(self, demands: list[Demand]) -> int:
        """Bytes that are missing, when the caches have given way."""
        if (room := self._room()) is None:
            return 0
        lacking = self._budget.lacking_bytes(
            demands, room.free_bytes, room.groups, room.spare_bytes
        )
        return lacking - self.give_way(lacking) if lacking else 0

    def free_bytes(self) -> int:
        """What a cache may take now, measured anew; all of it if that can't be told.

        Beside other programs it could give up all that it has, and still have no room.
        """
        room = self._room()
        return room.free_bytes if room is not None and room.is_own else sys.maxsize

    def _room(self) -> Room | None:
        room, _ = self._attempt("looking for room", self._engine.room)
        return room


def _demand(job: Sequence) -> Demand:
    run, n_written = job.run, job.work.n_tokens
    is_read = job.uid >= 0 and not job.left_tokens
    return Demand(len(run.tokens), run.max_tokens, job.held_tokens, n_written, joins=not is_read)
