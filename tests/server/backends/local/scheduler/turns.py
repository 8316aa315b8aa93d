"""The engine thread's work, turn by turn in a test's own thread. For tests only."""

from __future__ import annotations

from collections.abc import Sequence as TokenSequence

from mlxdeck.server.backends.local.engine.api import Engine, KVState, SamplingParams, SequenceSpec
from mlxdeck.server.backends.local.scheduler.commands import Enter, Leave
from mlxdeck.server.backends.local.scheduler.delivery import Parcel
from mlxdeck.server.backends.local.scheduler.engine_thread import EngineThread
from mlxdeck.server.backends.local.scheduler.sequence import Chunk, Done, Piece, Sequence
from mlxdeck.server.backends.local.scheduler.shared_thread import SharedThread
from mlxdeck.server.errors import ServerError


class Turns:
    """One engine, who asks it, and what they have been told."""

    n_expected = 0

    def __init__(self, engine: Engine, *, max_batch: int, chunk_tokens: int) -> None:
        self.worker = EngineThread(
            engine,
            self,
            SharedThread(),
            max_batch=max_batch,
            prefill_chunk_tokens=chunk_tokens,
            step_budget_tokens=0,
        )
        self.worker.room.loaded(engine.load(lambda _: None))
        self.told: dict[Sequence, list[Chunk | ServerError]] = {}

    def deliver(self, parcels: list[Parcel]) -> None:
        """Take down what each is told."""
        for job, parcel in parcels:
            self.told[job].append(parcel)

    def enter(self, tokens: TokenSequence[int], max_tokens: int, session: str = "") -> Sequence:
        """Ask something."""
        kept = list[KVState]()
        run = SequenceSpec(tokens, 0, None, max_tokens, SamplingParams())
        job = Sequence(run, kept.append, session=session)
        self.put(job)
        return job

    def put(self, job: Sequence) -> None:
        """Ask it."""
        self.told[job] = []
        self.worker.inbox.put(Enter(job))

    def leave(self, job: Sequence) -> None:
        """Ask no longer."""
        self.worker.inbox.put(Leave(job))

    def turn(self) -> None:
        """One step."""
        self.worker.turn(alone=False)

    def until_drawn(self, job: Sequence, most: int = 1_000) -> int:
        """Steps until its first token is drawn."""
        for n in range(1, most):
            self.turn()
            if job.work.n_tokens:
                return n
        raise AssertionError("it waits for ever")

    def ends(self, job: Sequence) -> list[Chunk | ServerError]:
        """What ended it: one thing at most, and nothing behind it."""
        told = self.told[job]
        found: list[Chunk | ServerError] = [each for each in told if not isinstance(each, Piece)]
        assert not found or told[-1:] == found
        return found

    def text(self, job: Sequence) -> str:
        """What it was told."""
        return "".join(each.text for each in self.told[job] if isinstance(each, Piece))

    def is_done(self, job: Sequence) -> bool:
        """Whether it was answered."""
        return any(isinstance(each, Done) for each in self.ends(job))
