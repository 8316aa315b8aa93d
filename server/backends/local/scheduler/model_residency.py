"""Whether an engine's model is in memory: it can be unloaded, and is loaded again in steps.

Between two steps the engine thread serves its inbox and other engines. So a stop, a client that
leaves, and another model's answers don't wait for gigabytes of weights. A step that hangs is found
as any other call that does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator
from typing import Literal, Protocol, TypeVar

from mlxdeck.server.backends.local.engine.api import Engine, Memory
from mlxdeck.server.backends.local.scheduler.sequence import Sequence

T = TypeVar("T")


class Attempt(Protocol):
    """Runs a call that may fail in any manner."""

    def __call__(self, what: str, work: Callable[[], T], /) -> tuple[T | None, str]:
        """Return its result, and the error as text."""


class ModelResidency:
    """One engine's model. The engine thread calls its methods; other threads read its figures."""

    def __init__(self, engine: Engine, attempt: Attempt, measure: Callable[[], Memory]) -> None:
        """`measure` takes down what memory the device holds."""
        self.state: Literal["loaded", "loading", "unloaded"] = "loaded"
        self.since_s = time.monotonic()
        """When the state began, of the monotonic clock."""
        self.n_loads = 0
        """How often it was loaded again."""
        self.load_s = 0.0
        """How long that took, the last time."""
        self.n_unloads = 0
        self.freed_bytes = 0
        """What the last one gave back."""
        self.n_failed = 0
        """How often it could not be loaded again."""
        self.failure = ""
        """Why, the last time."""
        self._engine = engine
        self._attempt = attempt
        self._measure = measure
        self._steps: Generator[None] | None = None

    def unload(self) -> None:
        """Free the model, its sequences and what is half loaded. If that fails, it counts as freed.

        `load` begins from nothing in any case.
        """
        before = self._measure()
        self._drop()
        self.freed_bytes = before.active_bytes - self._measure().active_bytes
        self.n_unloads += 1
        self._enter("unloaded")

    def abandon(self) -> None:
        """Give up a load that is under way."""
        steps, self._steps = self._steps, None
        if steps is not None:
            self._attempt("giving up a load", steps.close)

    def _drop(self) -> None:
        self.abandon()
        self._attempt("unloading the model", self._engine.unload)

    def load(self, waiting: Collection[Sequence]) -> str:
        """Do a step of loading for who waits; return why it can't be loaded, or an empty text."""
        if self.state == "unloaded":
            self._enter("loading")
        for job in waiting:
            job.work.waits_for = "the model, which is being loaded"
        more, failure = self._attempt("loading the model", self._step)
        now_s = time.monotonic()
        for job in waiting:
            times = job.work.times
            times.load_s = now_s - max(self.since_s, times.submitted_s)
        if failure:
            self.n_failed += 1
            self.failure = failure
            self._drop()
            self._enter("unloaded")
        elif not more:
            self._steps = None
            self.n_loads += 1
            self.load_s = now_s - self.since_s
            self._enter("loaded")
        return failure

    def _step(self) -> bool:
        """Return whether there is more to do."""
        if self._steps is None:
            self._steps = self._engine.reload()
        try:
            next(self._steps)
        except StopIteration:
            return False
        return True

    def _enter(self, state: Literal["loaded", "loading", "unloaded"]) -> None:
        self.since_s = time.monotonic()
        self.state = state
