"""How far one agent's conversation is, as its transcript tells it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from mlxdeck.telemetry.transcripts.transcript_lines import Params, TokenUsage

MAX_MESSAGES = 200
"""Messages that a request refers to; of longer conversations only the last ones."""


@dataclass(slots=True)
class OpenRequest:
    """A request that has begun, and is not known to have ended."""

    name: str
    start_ts: float
    last_ts: float
    start_known: bool = True
    """Whether it is known when it began, and not only when its first block was complete."""
    answer_id: str = ""
    """The API's name of the answer; empty until a block of it is there."""
    model: str = ""
    lines: set[str] = field(default_factory=set)
    """Those that are taken in; some transcripts repeat them."""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    n_calls: int = 0
    told: bool = False
    """Whether its answer is among the messages."""
    stop_reason: str = ""
    usage: TokenUsage = field(default_factory=TokenUsage)

    def add_usage(self, told: TokenUsage) -> None:
        """Each block tells of the whole answer; only the last ones count its tokens to the end."""
        before = self.usage
        n_before = before.output_tokens or 0
        if told.output_tokens is None or told.output_tokens < n_before:
            told.output_tokens = before.output_tokens
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            if getattr(told, name) is None:
                setattr(told, name, getattr(before, name))
        self.usage = told


@dataclass(slots=True)
class CameBack:
    """A call's result that no request has told yet."""

    call_id: str
    failed: bool
    text: str
    n_bytes: int
    ts: float


@dataclass(slots=True)
class Conversation:
    """One agent of one session."""

    session: str
    agent: str
    kind: str = ""
    task: str = ""
    started_by: str = ""
    """The call that started the agent."""
    hashes: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_MESSAGES))
    n_messages: int = 0
    unsent: list[tuple[str, str, str]] = field(default_factory=list)
    """Role, hash and JSON of messages that no request has told yet."""
    results: list[CameBack] = field(default_factory=list)
    asked_ts: float | None = None
    """When the last message came that a request may answer; None after an answer."""
    asked: str = ""
    """The user's last text."""
    shape: str = ""
    params: Params = field(default_factory=Params)
    open: OpenRequest | None = None
    ended: OpenRequest | None = None
    """The last one that has ended: late blocks of it may come."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.session, self.agent

    def forget_messages(self) -> None:
        """It begins anew, or was made short."""
        self.hashes.clear()
        self.n_messages = 0

    def add_message(self, role: str, digest: str, content: str, *, told: bool = False) -> None:
        """One more; unless a request has `told` it, the next one will."""
        self.hashes.append(digest)
        self.n_messages += 1
        if not told:
            self.unsent.append((role, digest, content))
