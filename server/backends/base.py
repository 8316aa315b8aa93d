"""The seam between a request's common path and its backend.

In front of it: canonical form, exact answers, single flight, the trace. Behind it: a model on this
machine (`local`), or anything else that can answer a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.errors import (
    TOO_LONG,
    EngineFailed,
    PromptTooLong,
    ServerError,
    StillLoading,
    Stopping,
    UnreadablePart,
    UpstreamFailed,
)
from mlxdeck.server.load import Load
from mlxdeck.server.request_facts import Digests, FallbackReason, StreamItem

LIMITED = (429, 503, 529)
"""Statuses of a server that would answer at another time."""

Announce = Callable[[str], None]
"""Called with a line for a person about each step of a slow start."""


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What answers here."""

    name: str
    """The model's, as clients see it."""
    signature: str
    """Changes whenever the same request could draw another answer: a share of the answer's key."""
    context_tokens: int | None
    """None if it is unknown."""
    device: str
    about: str = ""
    """Addition to the name in the ready line."""
    details: dict[str, Any] = field(default_factory=dict)
    """What `GET /v1/status` adds."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a request that comes now can be expected to be answered, and why not."""

    state: Literal["loading", "healthy", "degraded", "rebuilding", "unhealthy"]
    """`degraded`: it is answered, but something beside that fails."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """How a backend is at one moment."""

    health: Health
    load: Load
    details: dict[str, Any] = field(default_factory=dict)
    """What `GET /v1/status` adds."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that clients can name."""

    name: str
    context_tokens: int | None = None
    """None if it is unknown."""


async def _at_once() -> None:
    """Wait for nothing."""


@dataclass(frozen=True, slots=True)
class Route:
    """One backend that may answer a request. A single backend is the only route to itself."""

    name: str
    """The backend's, in settings and telemetry."""
    backend: Backend
    model: str
    """The name that the backend is asked for."""
    share: str = ""
    """What keeps its answers from those of other backends, beside what the backend says."""
    gives_way_on: frozenset[FallbackReason] = frozenset()
    """For which of these the next route takes over, before the answer has begun."""
    ready: Callable[[], Awaitable[None]] = _at_once
    """Waits until the backend can answer. Raises `StillLoading` or `EngineFailed`."""

    def given(self, chat: ChatRequest) -> ChatRequest:
        """The request as the backend gets it."""
        return chat if chat.model == self.model else replace(chat, model=self.model)

    @property
    def signature(self) -> str:
        """The share of an answer's key that stands for its origin. Once the backend can answer."""
        return f"{self.share}{self.backend.info.signature}"

    def gives_way(self, error: ServerError) -> FallbackReason | None:
        """Why the next route may take over from this one after an error; None if it may not."""
        reason = fallback_reason(error)
        return reason if reason in self.gives_way_on else None


def fallback_reason(error: ServerError) -> FallbackReason | None:
    """What an error says about its backend; None if another one would do no better."""
    match error:
        case PromptTooLong():
            return "window"
        case UnreadablePart():
            return "unreadable"
        case StillLoading():
            return "loading"
        case Stopping():
            return None
        case EngineFailed() | UpstreamFailed():
            return "down"
    if error.status in LIMITED:
        return "busy"
    if error.message.startswith(TOO_LONG):
        return "window"
    return "error" if error.status >= 500 else None


class Backend(Protocol):
    """Answers requests. For the event loop, which no method ever holds up."""

    @property
    def info(self) -> BackendInfo:
        """Only there once `start` has returned."""

    @property
    def status(self) -> BackendStatus:
        """At any time."""

    @property
    def must_not_unload(self) -> bool:
        """Whether Python must not be shut down, because native code still runs."""

    @property
    def lost(self) -> asyncio.Future[str]:
        """Done, with the reason, once it can't be kept running and the process had better end.

        Only there once `start` has been called.
        """

    @property
    def clock_formats(self) -> Sequence[str]:
        """The `strftime` format of local time in a prompt: answers change with it."""

    async def start(self, announce: Announce, disk: CacheDisk | None) -> None:
        """Get ready to answer. Caches that outlive the process lie on `disk`, if there is one.

        Raises:
            EngineFailed: That can't be.
        """

    async def stop(self) -> None:
        """End the running requests. `close` follows once nobody listens any more."""

    async def close(self) -> None:
        """Write the remaining data, and release everything."""

    def routes(self, chat: ChatRequest) -> Sequence[Route]:
        """Who answers a request, and who takes over if that one can't; only itself, if it is one.

        The other methods that take a request are called on the route's backend, with its model.
        """

    def models(self) -> Sequence[ServedModel]:
        """What clients can choose from, the usual one first."""

    def model_name(self, chat: ChatRequest) -> str:
        """The model that answers a request. Pure."""

    def check(self, chat: ChatRequest) -> None:
        """Refuse at once what can't be answered. Pure; any thread.

        Raises:
            BadRequest: It names the field.
            PromptTooLong: The texts alone are more than the window takes.
        """

    def key_share(self, chat: ChatRequest) -> str:
        """What of a request decides its answer here, beside its canonical form; as a digest.

        Pure; any thread. Empty if nothing else does.
        """

    def notes(self, chat: ChatRequest) -> tuple[str, ...]:
        """Which of the request's `history_notes` apply to what this backend reads.

        Pure; any thread.
        """

    def regroupings(self, chat: ChatRequest) -> tuple[str, ...]:
        """How the conversation will be put in another way, by name, as far as that is known.

        Pure; any thread.
        """

    def expecting(self) -> AbstractContextManager[None]:
        """Announce a request, for as long as it is looked up elsewhere."""

    def answer(self, chat: ChatRequest, parts: Digests) -> AsyncGenerator[StreamItem]:
        """Answer a canonical request; closing it at any point cancels.

        `LookedUp`s and `Prepared` come first, then `Started`, and `Finished` is last.

        Raises:
            ServerError: One, and nothing after it.
        """

    async def count(self, chat: ChatRequest) -> int:
        """How many tokens the prompt of a canonical request has."""

    async def shared_tokens(self, chat: ChatRequest) -> list[int]:
        """The tokens of a request's system prompt and tools, if `prefill` could use them."""

    async def known_tokens(self, system: str, tools: str) -> list[int] | None:
        """The same of a request from an earlier run, by the digests of its parts."""

    async def prefill(self, tokens: list[int]) -> None:
        """Compute the state of a system prompt, and keep it; cancelled, what there is of it."""

    def cache_report(self) -> dict[str, Any]:
        """Contents and statistics of each of its own cache tiers, by name.

        Called on another thread than the event loop: it may look at all that is kept.
        """

    async def clear(self, tier: str) -> int:
        """Empty one of the tiers in `cache_report`; return how many entries it held."""

    def tick(self) -> None:
        """Do regular work. Called every second."""


class OneModel:
    """What backends with one model, known by its name alone, say of a request."""

    info: BackendInfo

    def models(self) -> Sequence[ServedModel]:
        """The one model."""
        return (ServedModel(self.info.name, self.info.context_tokens),)

    def model_name(self, chat: ChatRequest) -> str:
        """The same for all."""
        del chat
        return self.info.name

    def key_share(self, chat: ChatRequest) -> str:
        """Nothing: all that decides is in the canonical form."""
        del chat
        return ""

    def notes(self, chat: ChatRequest) -> tuple[str, ...]:
        """All of them."""
        return chat.history_notes
