"""A backend that does what a test tells it, request by request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from mlxdeck.server.backends.base import Announce, BackendInfo, BackendStatus, Health
from mlxdeck.server.backends.simple import SimpleBackend
from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.chat import ChatRequest, Event, Finished, Started, TextDelta, Usage
from mlxdeck.server.errors import ServerError
from mlxdeck.server.load import Load
from mlxdeck.server.request_facts import Digests, StreamItem

Script = Callable[[ChatRequest], Sequence[Event | ServerError | float]]
"""What is sent for a request: events, an error that ends it, and seconds to wait."""


def said(text: str) -> list[Event]:
    """A whole answer."""
    usage = Usage(3, 0, 1)
    return [Started(Usage(3)), TextDelta(text), Finished("end_turn", usage)]


class ScriptedBackend(SimpleBackend):
    """Says who it is, if it isn't told what to say."""

    def __init__(self, name: str, script: Script | None = None) -> None:
        info = BackendInfo(f"{name}-model", f"signature of {name}", 1000, "none")
        super().__init__(name, info)
        self.script = script or (lambda chat: said(f"{self.name} as {chat.model}"))
        self.health = Health("healthy")
        self.refuses: ServerError | None = None
        """What `check` raises."""
        self.fails: BaseException | None = None
        """What `start` raises."""
        self.goes_on = asyncio.Event()
        """Whether `start` returns."""
        self.goes_on.set()
        self.asked: list[ChatRequest] = []
        self.n_active = self.n_left = self.n_ticks = 0
        self.ended: list[str] = []

    async def start(self, announce: Announce, disk: CacheDisk | None) -> None:
        """As told."""
        await super().start(announce, disk)
        await self.goes_on.wait()
        if self.fails is not None:
            raise self.fails

    async def stop(self) -> None:
        """Note it."""
        self.ended.append("stop")

    async def close(self) -> None:
        """Note it."""
        self.ended.append("close")

    @property
    def status(self) -> BackendStatus:
        """Counts what runs."""
        return BackendStatus(self.health, Load(active=self.n_active), {self.name: True})

    def check(self, chat: ChatRequest) -> None:
        """As told."""
        if self.refuses is not None:
            raise self.refuses

    async def answer(self, chat: ChatRequest, parts: Digests) -> AsyncGenerator[StreamItem]:
        """By the script."""
        self.asked.append(chat)
        self.n_active += 1
        try:
            for item in self.script(chat):
                if isinstance(item, float):
                    await asyncio.sleep(item)
                elif isinstance(item, ServerError):
                    raise item
                else:
                    yield item
        except (asyncio.CancelledError, GeneratorExit):
            self.n_left += 1
            raise
        finally:
            self.n_active -= 1

    async def count(self, chat: ChatRequest) -> int:
        """As many as its name has letters."""
        self.check(chat)
        return len(self.name)

    def cache_report(self) -> dict[str, Any]:
        """One tier."""
        return {"tier": {"entries": len(self.name)}}

    async def clear(self, tier: str) -> int:
        """Empty it."""
        return len(self.name)

    def tick(self) -> None:
        """Count."""
        self.n_ticks += 1
