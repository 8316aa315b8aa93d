"""What other threads ask of an engine: small values in one order, through its inbox."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass

from mlxdeck.server.backends.local.scheduler.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Enter:
    """A sequence is to be generated."""

    job: Sequence


@dataclass(frozen=True, slots=True)
class Leave:
    """A sequence is cancelled."""

    job: Sequence


@dataclass(frozen=True, slots=True)
class Run:
    """Work to do between two steps; `ended` gets the reason of a failure, or an empty text."""

    work: Callable[[], object]
    ended: Callable[[str], None]
    """Called on the engine thread."""
    before_step: bool = False
    """Whether running sequences get a step before the next command: this one may take a while."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The thread is to end after the step it is in."""


Command = Enter | Leave | Run | Stop


class Inbox(queue.SimpleQueue[Command]):
    """Commands in order. Any thread puts, the engine thread gets."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """`ring` wakes the engine thread."""
        super().__init__()
        self._ring = ring

    def put(self, item: Command, block: bool = True, timeout: float | None = None) -> None:
        """Hand it over, and wake the thread."""
        super().put(item, block, timeout)
        self._ring()
