"""A request of the day, what becomes of it, and the times that it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tests.corpora.day.conversation import Conversation, Prompt, prompt_of


class Outcome(Enum):
    """What a client sees of an answer."""

    OK = "ok"
    FAILED = "failed"
    """An error that another try may mend."""
    BUSY = "busy"
    """Too many are waiting."""
    TOO_LONG = "too long"
    REFUSED = "refused"
    LEFT = "left"
    DOWN = "down"
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an answer."""

    name: str
    arguments: str
    parse_error: str = ""
    repaired: bool = False
    valid: bool = True
    id: str = ""


@dataclass(slots=True)
class Ask:
    """A request as its client sends it, and what the model is going to say."""

    conversation: Conversation
    output_tokens: int
    calls: tuple[Call, ...] = ()
    max_tokens: int = 32_000
    stream: bool = True
    temperature: float | None = None
    thinking: bool | None = None
    reasoning_tokens: int = 0
    leaves_after_s: float = 0.0
    """When its client hangs up; 0 for never."""
    malformed: str = ""
    """What the server finds wrong with its body."""
    fresh: bool = False
    """Whether a known answer is refused."""
    ended_by: str = ""
    let_go: str = ""
    seed: int | None = None

    def __post_init__(self) -> None:
        # As it is now: the conversation goes on while others wait.
        self._snapshot()

    prompt: Prompt = field(init=False)
    key: str = field(init=False)
    n_messages: int = field(init=False)
    hashes: tuple[str, ...] = field(init=False)
    starts: tuple[int, ...] = field(init=False)

    def _snapshot(self) -> None:
        conversation = self.conversation
        self.prompt, self.key = prompt_of(conversation), conversation.key
        self.n_messages = len(conversation.hashes)
        self.hashes, self.starts = tuple(conversation.hashes), tuple(conversation.starts)


@dataclass(slots=True)
class Times:
    """Moments of a request that the engine takes, in seconds of the simulation."""

    submitted_s: float
    tokenized_s: float
    begins_s: float
    """It has a place, and its prompt is read."""
    first_token_s: float
    ends_s: float
