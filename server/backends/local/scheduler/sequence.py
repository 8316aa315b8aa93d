"""One sequence in the engine: its parameters and its output."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mlxdeck.server.backends.local.engine.api import KVState, SequenceSpec
from mlxdeck.server.backends.local.scheduler.loop_guard import LoopGuard
from mlxdeck.server.errors import ServerError
from mlxdeck.server.request_facts import Work

Keep = Callable[[KVState], None]
"""Takes a state that a job left behind. Called on the engine thread."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The addition of one token to the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing to deliver for a while, but the engine is at work."""


@dataclass(frozen=True, slots=True)
class Done:
    """The sequence is complete: by a stop token, its length or a loop. Always the last chunk."""

    reason: Literal["stop", "length", "loop"]


Chunk = Piece | Waiting | Done


@dataclass(eq=False, slots=True)
class Sequence:
    """One sequence in the engine."""

    run: SequenceSpec
    keep: Keep
    guard: LoopGuard | None = None
    """Ends a sequence that repeats itself; None if the loop guard is off."""
    work: Work = field(default_factory=Work)
    """Figures for telemetry."""
    n_prefilled: int = 0
    """Prompt tokens that are in the KV state by now, the cached ones included."""
    chunks: asyncio.Queue[Chunk | ServerError] = field(default_factory=asyncio.Queue)
    uid: int = -1
    session: str = ""
    """Sequences of one session share what is theirs; without one, each is on its own."""
    n_passed: int = 0
    """How often a later one was let in before it."""
    is_extra: bool = False
    """Whether its place is one of those beside `max_batch`, for short prompts."""
    spoil: Callable[[], None] | None = None
    """Called on the engine thread if nothing could be drawn: its first state may be the reason."""

    @property
    def left_tokens(self) -> int:
        """Prompt tokens that are not computed."""
        return len(self.run.tokens) - max(self.n_prefilled, self.run.n_cached)

    @property
    def is_begun(self) -> bool:
        """Whether the engine has read some of its prompt."""
        return self.n_prefilled > self.run.n_cached

    @property
    def owner(self) -> str:
        """The session, or a name of its own."""
        return self.session or f"#{id(self)}"
