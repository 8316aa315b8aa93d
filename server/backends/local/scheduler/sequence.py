"""One sequence in the engine: its parameters and its output."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from collections.abc import Sequence as TokenSequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mlxdeck.server.backends.local.engine.api import KVState, Sampled, SequenceSpec, State
from mlxdeck.server.backends.local.scheduler.loop_guard import LoopGuard
from mlxdeck.server.errors import ServerError
from mlxdeck.server.request_facts import Work

Keep = Callable[[KVState], None]
"""Takes a state that a job left behind. Called on the engine thread."""

Lease = Callable[[TokenSequence[int]], tuple[int, State]]
"""Finds how many of some tokens are known, and their state. Called on the engine thread."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The addition of one token to the answer."""

    text: str
    n_tokens: int
    """Tokens of the answer up to this one. The engine may be some tokens ahead."""


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
    lease: Lease | None = None
    """Finds its state again after it had to wait; without, all of it is read once more."""
    rest: SequenceSpec | None = None
    """What is left to do, if it had a place and lost it; without its state."""
    spoil: Callable[[], None] | None = None
    """Called on the engine thread if nothing could be drawn: its first state may be the reason."""

    @property
    def spec(self) -> SequenceSpec:
        """What the engine is to do: all of it, or what is left of it."""
        return self.rest or self.run

    @property
    def held_tokens(self) -> int:
        """Those that are in its own KV cache now.

        A state that was known becomes its own with the first pass.
        """
        if self.uid < 0 or not self.is_begun:
            return 0
        return self.n_prefilled + self.work.n_tokens - self.spec.n_written

    def let_in(self) -> SequenceSpec:
        """It has a place; return what the engine is to do."""
        times = self.work.times
        times.admitted_s, times.paused_s = times.admitted_s or time.monotonic(), 0.0
        spec = self.spec
        if self.rest is not None and self.lease is not None:
            n_cached, state = self.lease(self.rest.tokens)
            # The engine alone holds the state: caches may give theirs up at any time.
            self.rest = replace(self.rest, n_cached=n_cached)
            spec = replace(self.rest, state=state)
        self.n_prefilled = spec.n_cached
        self.work.read_tokens = min(self.n_prefilled, len(self.run.tokens))
        return spec

    def wait_again(self, kept: KVState | None) -> bool:
        """It has lost its place; return whether what it has written is known.

        `kept` holds what was computed: prompt and answer, as far as they go.
        """
        n_prompt, n_written = len(self.run.tokens), self.work.n_tokens
        # What was computed ahead of the answer is computed again.
        tokens = kept.tokens[: n_prompt + n_written] if kept is not None else ()
        if len(tokens) < n_prompt + n_written:
            # It had waited before, and has written nothing since.
            tokens = self.spec.tokens
        self.uid, self.n_prefilled = -1, 0
        self.work.times.paused_s = time.monotonic()
        self.work.held = False
        if not n_written:
            self.rest = replace(self.run, n_cached=0, state=None)
            return True
        self.rest = replace(
            self.run,
            tokens=tokens,
            n_cached=0,
            state=None,
            max_tokens=self.run.max_tokens - n_written,
            n_written=n_written,
        )
        return len(tokens) == n_prompt + n_written

    def drew(self, step: Sampled, now_s: float) -> None:
        """Take down a token of its answer."""
        if not self.work.n_tokens:
            self.work.times.first_token_s = now_s
        self.work.n_tokens += 1
        self.work.drafted_tokens += step.n_drafted
        self.work.accepted_tokens += step.n_accepted
        self.work.forced_tokens += step.n_forced
        self.work.held = step.held

    @property
    def left_tokens(self) -> int:
        """Tokens that have to be read, and are not computed."""
        spec = self.run if self.rest is None else self.rest
        n_computed = self.n_prefilled
        return len(spec.tokens) - (n_computed if n_computed > spec.n_cached else spec.n_cached)

    @property
    def is_begun(self) -> bool:
        """Whether the engine has read some of its prompt."""
        return self.n_prefilled > self.spec.n_cached

    @property
    def owner(self) -> str:
        """The session, or a name of its own."""
        return self.session or f"#{id(self)}"
