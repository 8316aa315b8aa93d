"""Bases for backends that compute and keep nothing here, or that only answer.

Plug-ins build on `SimpleBackend`: one model, no caches of its own, nothing to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from mlxdeck.server.backends.base import (
    Announce,
    BackendInfo,
    BackendStatus,
    Health,
    OneModel,
    Route,
)
from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.errors import NotFound
from mlxdeck.server.load import Load
from mlxdeck.server.request_facts import Digests, StreamItem


class NothingLocal:
    """The parts of the seam for a backend that computes and keeps nothing in this process."""

    must_not_unload = False
    clock_formats: Sequence[str] = ()

    async def stop(self) -> None:
        """What runs ends with those who ask."""

    def regroupings(self, chat: ChatRequest) -> tuple[str, ...]:
        """None."""
        del chat
        return ()

    def expecting(self) -> AbstractContextManager[None]:
        """Nobody waits here for several prompts at once."""
        return nullcontext()

    async def shared_tokens(self, chat: ChatRequest) -> list[int]:
        """Nothing can be prefilled."""
        del chat
        return []

    async def known_tokens(self, system: str, tools: str) -> list[int] | None:
        """Nothing can be prefilled."""
        del system, tools
        return None

    async def prefill(self, tokens: list[int]) -> None:
        """Nothing can be prefilled."""

    def cache_report(self) -> dict[str, Any]:
        """It has no caches of its own."""
        return {}

    async def clear(self, tier: str) -> int:
        """It has no caches of its own."""
        del tier
        return 0

    def tick(self) -> None:
        """Nothing is due."""


class SimpleBackend(NothingLocal, OneModel):
    """A `Backend` whose `answer` is all that is missing."""

    lost: asyncio.Future[str]

    def __init__(self, name: str, info: BackendInfo) -> None:
        """`name` is its name in the settings."""
        self.name = name
        self.info = info

    async def start(self, announce: Announce, disk: CacheDisk | None) -> None:
        """There is nothing to load."""
        del announce, disk
        self.lost = asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """There is nothing to write."""

    @property
    def status(self) -> BackendStatus:
        """Well, as far as it knows."""
        return BackendStatus(Health("healthy"), Load(queued=None))

    def routes(self, chat: ChatRequest) -> Sequence[Route]:
        """Itself."""
        return (Route(self.name, self, chat.model),)

    def check(self, chat: ChatRequest) -> None:
        """Refuse nothing."""

    def answer(self, chat: ChatRequest, parts: Digests) -> AsyncGenerator[StreamItem]:
        """Answer a canonical request: `Started`, then deltas, then `Finished`."""
        raise NotImplementedError

    async def count(self, chat: ChatRequest) -> int:
        """Nothing is known of tokens.

        Raises:
            NotFound: Always.
        """
        del chat
        raise NotFound(f"the backend {self.name} doesn't count tokens")
