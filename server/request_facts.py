"""Facts about a request as values, in a module below all their producers and consumers.

A backend sends them as events of the answer's stream. The trace reads them; encoders never see one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from mlxdeck.server.chat import ChatRequest, Event


@dataclass(frozen=True, slots=True)
class Digests:
    """A request's parts, each as 64 hex digits; empty for a missing part.

    Equal for equal meaning: the order of a JSON object's keys doesn't matter.
    """

    system: str
    tools: str
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Miss:
    """Why tokens had to be computed that might have been known; no reason if none had to be."""

    reason: str = ""
    """`cold`, `diverged`, `evicted`, `model_changed`, `disabled`, or empty."""
    at_token: int = -1
    """The first token that differs from the prompt that came nearest."""
    part: str = ""
    """The part of the request that this token belongs to."""
    ours: str = ""
    theirs: str = ""
    """Hashes of that part in both prompts."""


@dataclass(slots=True)
class Times:
    """When a sequence passed its stations, in seconds of the monotonic clock; 0 for not yet."""

    submitted_s: float = 0.0
    admitted_s: float = 0.0
    load_s: float = 0.0
    """How long it waited for an unloaded model to be loaded again: a span, and no moment."""
    paused_s: float = 0.0
    """When it lost its place, and waits for another one."""
    first_token_s: float = 0.0
    finished_s: float = 0.0

    @property
    def queue_s(self) -> float:
        """How long it waited for a place, or waits by now; without the time of `load_s`."""
        waited_s = _between(self.submitted_s, self.admitted_s or self.finished_s)
        return max(0.0, waited_s - self.load_s)

    @property
    def prefill_s(self) -> float:
        """From its admission to the first token."""
        return _between(self.admitted_s, self.first_token_s or self.finished_s)

    @property
    def decode_s(self) -> float:
        """From the first token to the end."""
        return _between(self.first_token_s, self.finished_s)


def _between(start_s: float, end_s: float) -> float:
    return max(0.0, (end_s or time.monotonic()) - start_s) if start_s else 0.0


WorkState = Literal["wait", "prefill", "decode"]


@dataclass(slots=True)
class Work:
    """A backend's progress with a request. Only the backend writes it; others read it."""

    times: Times = field(default_factory=Times)
    n_tokens: int = 0
    """Sampled tokens, the stop token included."""
    forced_tokens: int = 0
    """Those of them that the grammar forced, and that took no pass of their own."""
    drafted_tokens: int = 0
    """Guessed tokens that the model verified."""
    accepted_tokens: int = 0
    """Those of them that it drew itself: so many passes less than tokens."""
    read_tokens: int = 0
    """Prompt tokens that are in the KV cache, those that were known included."""
    position: int = 0
    """Its place among those that wait, 1 for the next; 0 if it doesn't wait."""
    waits_for: str = ""
    """Why it waits, for a person; also a prompt that has a place waits for its turn."""
    held: bool = False
    """Whether a grammar constrains what is written at this moment."""
    let_go: str = ""
    """Why the answer left its constraint; empty if it did not."""

    @property
    def state(self) -> tuple[WorkState, float]:
        """Its state and since when, in seconds of the monotonic clock; 0 if it isn't queued yet."""
        times = self.times
        if times.paused_s:
            return "wait", times.paused_s
        if times.first_token_s:
            return "decode", times.first_token_s
        if times.admitted_s:
            return "prefill", times.admitted_s
        return "wait", times.submitted_s


FallbackReason = Literal["window", "unreadable", "down", "loading", "error", "busy"]
"""Why a backend didn't answer: the prompt is too long for it, or has pictures that it can't read,
it can't be reached or has failed, its model still loads, it answered with an error, or it is full
or limits its rate."""
FALLBACK_REASONS: tuple[FallbackReason, ...] = get_args(FallbackReason)


@dataclass(frozen=True, slots=True)
class BackendChosen:
    """A backend was chosen for the request, or takes over from another."""

    backend: str
    model: str = ""
    """The model that answers; empty until it is known."""
    fell_back_from: str = ""
    """The backend that was chosen before; empty if this is the first."""
    reason: FallbackReason | Literal[""] = ""
    """Why that one didn't answer."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request was decoded, and is in its canonical form."""

    request: ChatRequest
    parts: Digests
    removed: tuple[str, ...]
    """Rules of the canonical form that took something out."""
    regrouped: tuple[str, ...]
    """The backend's regroupings of the conversation."""
    queued: int | None
    """Requests that wait already; None if that is unknown."""
    share: str = ""
    """The backend's share of the answer's key."""
    removed_parts: tuple[str, ...] = ()
    """What those rules took out, part by part: rule, place and digest."""
    asked: ChatRequest | None = None
    """The request as its client wrote it; None if that makes no difference."""
    key: str = ""
    """Of an exact answer to it."""


@dataclass(frozen=True, slots=True)
class BlockDigests:
    """Keyed digests of a prompt's blocks of tokens, as telemetry tells them."""

    n_before: int = 0
    """Blocks in front of those that are new."""
    before: str = ""
    """Digest of the last of them, in base64."""
    new: str = ""
    """Digests of the others, in one text."""


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A cache was asked."""

    cache: Literal["exact", "prefix"]
    tier: str = ""
    """Where it was found; empty if nowhere."""
    miss: Miss = Miss()
    duration_s: float = 0.0
    key: str = ""
    """Of an exact answer."""
    matched_tokens: int = 0
    prompt_tokens: int = 0
    shared_tokens: int = 0
    """System prompt and tools: what other conversations may begin with too."""
    message_starts: tuple[int, ...] = ()
    """Each message's first token."""
    tail_start: int = 0
    """End of the last message, where the template's start of the answer begins."""
    tool_tokens: tuple[int, ...] = ()
    """Tokens of each tool's description, in the request's order; 0 if it was not found."""
    blocks: BlockDigests = BlockDigests()
    regrouped: tuple[str, ...] = ()
    """Further regroupings of the conversation, found only during rendering."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The prompt is rendered and counted, and the backend is about to work at it."""

    work: Work
    prompt_tokens: int
    cached_tokens: int
    tokenize_s: float = 0.0
    unconstrained: str = ""
    """Why decoding could not be constrained to the schemas of the tools."""
    loose: Mapping[str, str] = field(default_factory=dict)
    """The same for single tools, by their names."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Another server is asked. What it doesn't tell stays unknown."""

    provider: str
    """OpenTelemetry's name of it."""
    model: str
    """The model that it is asked for."""


@dataclass(frozen=True, slots=True)
class FirstTokenDrawn:
    """The first token was drawn; `Work` knows when."""


@dataclass(frozen=True, slots=True)
class ModelText:
    """What the model wrote, before any of it was read as a tool call. For a log."""

    text: str


@dataclass(frozen=True, slots=True)
class BadCall:
    """A call that could not be read; it has been passed on as text."""

    format: str
    error: str
    n_bytes: int
    digest: str


Fact = (
    BackendChosen
    | Accepted
    | LookedUp
    | Prepared
    | Forwarded
    | FirstTokenDrawn
    | BadCall
    | ModelText
)
StreamItem = Event | Fact
"""What comes out of a backend, in the order in which it happens."""
