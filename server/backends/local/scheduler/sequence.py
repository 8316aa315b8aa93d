"""One sequence on its way through the engine: what it asks for, its times, what comes out of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mlxdeck.server.backends.local.engine.api import KVState, SequenceSpec
from mlxdeck.server.backends.local.scheduler.loop_guard import LoopGuard
from mlxdeck.server.errors import ServerError

Keep = Callable[[KVState], None]
"""Takes a state that a job left behind. Called on the engine thread."""


@dataclass(slots=True)
class Times:
    """When a job passed its stations, in seconds of the monotonic clock; 0 for not yet."""

    submitted_s: float = 0.0
    admitted_s: float = 0.0
    first_token_s: float = 0.0
    finished_s: float = 0.0

    @property
    def queue_s(self) -> float:
        """How long the job waited for a place, or waits by now."""
        return _between(self.submitted_s, self.admitted_s or self.finished_s)

    @property
    def prefill_s(self) -> float:
        """From its admission to the first token."""
        return _between(self.admitted_s, self.first_token_s or self.finished_s)

    @property
    def decode_s(self) -> float:
        """From the first token to the end."""
        return _between(self.first_token_s, self.finished_s)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one more token adds to the answer."""

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
    """One sequence on its way through the engine."""

    run: SequenceSpec
    keep: Keep
    guard: LoopGuard | None = None
    """Ends it where it goes round in circles, if it should."""
    times: Times = field(default_factory=Times)
    n_prefilled: int = 0
    """Prompt tokens that are in the KV state by now, the cached ones included."""
    n_tokens: int = 0
    """Tokens drawn so far, the stop token included."""
    chunks: asyncio.Queue[Chunk | ServerError] = field(default_factory=asyncio.Queue)
    uid: int = -1
    let_go: str = ""
    """Why the answer left what it was held to; empty if it did not."""


def _between(start_s: float, end_s: float) -> float:
    return max(0.0, (end_s or time.monotonic()) - start_s) if start_s else 0.0
