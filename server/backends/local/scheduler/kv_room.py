"""Room for the KV cache of one sequence more: caches give way, then whoever came last waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mlxdeck.server.backends.local.engine.api import Engine, ModelInfo, Room
from mlxdeck.server.backends.local.scheduler.kv_budget import Demand, KVBudget
from mlxdeck.server.backends.local.scheduler.model_residency import Attempt
from mlxdeck.server.backends.local.scheduler.sequence import Sequence
from mlxdeck.server.errors import PromptTooLong


class KVRoom:
    """Of one engine. Engine thread, but for `check`."""

    def __init__(self, engine: Engine, attempt: Attempt) -> None:
        self._engine = engine
        self._attempt = attempt
        self._budget = KVBudget()
        self._refused: tuple[Sequence, frozenset[int]] | None = None
        """Who had no room, beside whom: no need to look again until that changes."""
        self.give_way: Callable[[int], int] = lambda n_bytes: 0
        """Frees so many bytes of cached states, if it can; returns how many it has freed."""

    def loaded(self, model: ModelInfo) -> None:
        """A model is there. Caches are still empty."""
        if model.kv_bytes and model.context_tokens and (room := self._room()) is not None:
            self._budget = KVBudget(model.kv_bytes / model.context_tokens, room.most_bytes)

    def check(self, job: Sequence) -> None:
        """Refuse what can never fit. Any thread.

        Raises:
            PromptTooLong: Its prompt alone takes more than there is.
        """
        n_tokens, most = len(job.run.tokens), self._budget.most_tokens
        if most is not None and n_tokens > most:
            raise PromptTooLong(n_tokens, most)

    def fits(self, job: Sequence, running: Iterable[Sequence]) -> bool:
        """Whether it may be let in beside those that run. If none does, it may try."""
        beside = list(running)
        uids = frozenset(each.uid for each in beside)
        if not beside or not self._budget.token_bytes:
            return True
        if self._refused == (job, uids):
            return False
        room = self._room()
        lacking = 0
        if room is not None:
            demands = map(_demand, beside)
            lacking = self._budget.lacking_bytes(_demand(job), demands, room.free_bytes)
        if lacking:
            lacking -= self.give_way(lacking)
        self._refused = (job, uids) if lacking > 0 else None
        return lacking <= 0

    def _room(self) -> Room | None:
        room, _ = self._attempt("looking for room", self._engine.room)
        return room


def _demand(job: Sequence) -> Demand:
    held_tokens = job.n_prefilled + job.work.n_tokens if job.uid >= 0 else 0
    return Demand(len(job.run.tokens), job.run.max_tokens, held_tokens)
