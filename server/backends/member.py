"""One of several backends: whether it has started, and how it is."""

from __future__ import annotations

import asyncio

from mlxdeck.server.backends.base import Announce, Backend, BackendStatus, Health
from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.errors import EngineFailed, StillLoading, one_line
from mlxdeck.server.load import Load

LOADING = BackendStatus(Health("loading"), Load())


class Member:
    """A backend that starts by itself, and may fail to. For the event loop."""

    def __init__(
        self, name: str, backend: Backend, share: str = "", *, is_awaited: bool = False
    ) -> None:
        """`share` keeps its answers from those of other backends that sign alike.

        The server isn't ready before one that `is_awaited`: it would hold up the default one.
        """
        self.name = name
        self.backend = backend
        self.share = share
        self.is_awaited = is_awaited
        self.starting: asyncio.Task[None] | None = None

    def start(self, announce: Announce, disk: CacheDisk | None) -> asyncio.Task[None]:
        """Begin to start it."""
        starting = self.backend.start(lambda line: announce(f"{self.name}: {line}"), disk)
        self.starting = asyncio.create_task(starting)
        return self.starting

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        task = self.starting
        return task is not None and task.done() and not (task.cancelled() or task.exception())

    @property
    def failure(self) -> BaseException | None:
        """Why it could not start."""
        task = self.starting
        return task.exception() if task and task.done() and not task.cancelled() else None

    async def ready(self, wait_s: float, *, gives_way: bool) -> None:
        """Wait until it can answer; one that `gives_way` isn't asked while it is down.

        Raises:
            StillLoading: It takes longer.
            EngineFailed: It could not start, or is down.
        """
        if not self.is_ready:
            await self._started(wait_s)
        health = self.backend.status.health
        if gives_way and health.state == "unhealthy":
            raise EngineFailed(f"{self.name}: {health.reason}")

    async def _started(self, wait_s: float) -> None:
        if self.starting is not None:
            await asyncio.wait({self.starting}, timeout=wait_s)
        if self.starting is None or not self.starting.done():
            raise StillLoading(f"the backend {self.name}")
        if self.starting.cancelled():
            raise EngineFailed("the server is stopping")
        if self.failure is not None:
            raise EngineFailed(f"{self.name}: {one_line(self.failure)}")

    @property
    def status(self) -> BackendStatus:
        """How it is, also before it has started."""
        if self.is_ready:
            return self.backend.status
        if self.failure is None:
            return LOADING
        return BackendStatus(Health("unhealthy", one_line(self.failure)), Load())

    async def stop(self) -> None:
        """End what still runs, also an unfinished start."""
        if self.starting is None:
            return
        self.starting.cancel()
        await asyncio.wait({self.starting})
        await self.backend.stop()
