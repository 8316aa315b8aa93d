"""One server's life: backend, caches, pipeline and observer, put together, started and stopped.

`app` turns HTTP into calls of this and nothing more. Lives on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from mlxdeck.server.answer_caches import AnswerCaches
from mlxdeck.server.backends.base import Announce, Backend, BackendInfo, Health
from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.checkpoints import Lanes, Workers
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import EngineFailed, StillLoading, one_line
from mlxdeck.server.lifecycle.upkeep import Upkeep
from mlxdeck.server.load import Load
from mlxdeck.server.observe.observer import Emitter, Observer
from mlxdeck.server.pipeline import Pipeline
from mlxdeck.server.process_memory import process_bytes
from mlxdeck.server.stored_answers import StoredAnswers
from mlxdeck.server.warmup import Warmer
from mlxdeck.server.web.decoding import BodyReader
from mlxdeck.server.web.incoming_bodies import IncomingBodies

log = logging.getLogger(__name__)

# Requests that arrive while the model loads wait this long; then they get a 529.
LOAD_WAIT_S = 60.0
HURRIED_STEP_S = 0.3
"""For the step that the engine is in, once there is no time any more."""
FLUSH_S = 10.0
"""Time to write caches when the server ends; then the running write gets as much again."""
TICK_S = 1.0
IDLE_TICK_S = 10.0

OpenEmitter = Callable[[BackendInfo], Emitter]


class Service:
    """One backend and everything in front of it."""

    pipeline: Pipeline
    observer: Observer
    caches: AnswerCaches
    """All set once the backend is ready; `ready` waits for that."""

    def __init__(self, settings: Settings, backend: Backend, open_emitter: OpenEmitter) -> None:
        self.settings = settings
        self.backend = backend
        self._open_emitter = open_emitter
        self._began_s = time.monotonic()
        self.is_ready = False
        self._tasks: list[asyncio.Task[None]] = []
        self._readers = [ThreadPoolExecutor(1, name) for name in ("reader", "long-reader")]
        medium, long = self._readers
        self.lanes = Lanes(Workers(medium), Workers(long, long=True))
        """Read requests that are not short."""
        self.requests = BodyReader(self.lanes)
        self.bodies = IncomingBodies(settings.max_body_bytes, settings.max_body_bytes_in_flight)
        self.stored = StoredAnswers(settings.stored_responses, settings.stored_responses_bytes)
        """Answers to which later requests may refer."""
        self.upkeep = Upkeep()
        self._hurried = asyncio.Event()
        self._opened = AsyncExitStack()
        """Parts to close once the backend has stopped, also after an incomplete start."""

    async def start(self, announce: Announce) -> None:
        """Begin to load the model; returns at once."""
        self.loading = asyncio.create_task(self._load(announce))

    async def _load(self, announce: Announce) -> None:
        settings, backend = self.settings, self.backend
        self.caches = await asyncio.to_thread(AnswerCaches, settings)
        if (disk := self.caches.disk) is not None:
            self._opened.push_async_callback(self._close_disk, disk)
        await backend.start(announce, disk)
        info = backend.info
        emitter = self._open_emitter(info)
        self._opened.push_async_callback(asyncio.to_thread, emitter.close)
        self._opened.push_async_callback(self.caches.close)
        self._opened.push_async_callback(backend.close)
        self.observer = Observer(emitter, info.name, settings.capture)
        self.pipeline = Pipeline(
            backend, self.caches.tiers, settings.canonical_off.split(","), self.lanes
        )
        self.is_ready = True
        self._tasks.append(asyncio.create_task(self._tick()))
        about = "; ".join(part for part in (f"model {info.name}", info.about) if part)
        announce(f"mlxdeck ready on {settings.url} ({about})")
        if settings.warm:
            warming = Warmer(self.pipeline).run(settings, announce, self.upkeep)
            self._tasks.append(asyncio.create_task(warming))

    async def stop(self) -> None:
        """End everything, in the order that loses nothing."""
        self.loading.cancel()
        for task in self._tasks:
            task.cancel()
        for reader in self._readers:
            reader.shutdown(wait=False, cancel_futures=True)
        await self._unless_hurried(self.backend.stop())
        await self._opened.aclose()

    async def _close_disk(self, disk: CacheDisk) -> None:
        """Write the caches, with a time limit; a disk that hangs is abandoned."""
        closing = asyncio.to_thread(disk.disk.close, FLUSH_S)
        try:
            async with asyncio.timeout(2 * FLUSH_S):
                await closing
        except TimeoutError:
            log.warning("the caches were not written to disk completely: no time")

    async def _unless_hurried(self, stopping: Coroutine[Any, Any, None]) -> None:
        """Wait for an end, but not for the step that the engine is in once there is no time."""
        work = asyncio.create_task(stopping)
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait({work, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if work.done():
            await work
        else:
            await asyncio.wait({work}, timeout=HURRIED_STEP_S)
            work.cancel()

    def hurry(self) -> None:
        """Make `stop` drop everything that can be computed again."""
        self._hurried.set()
        if self.is_ready and self.caches.disk is not None:
            self.caches.disk.disk.hurry()

    async def ready(self) -> None:
        """Wait for the model.

        Raises:
            StillLoading: It takes too long; the client should come back.
            EngineFailed: It could not be loaded.
        """
        await asyncio.wait({self.loading}, timeout=LOAD_WAIT_S)
        if not self.loading.done():
            raise StillLoading
        if self.loading.cancelled():
            raise EngineFailed("the server is stopping")
        if error := self.loading.exception():
            # Not raised itself: it would collect a traceback of each request.
            raise EngineFailed(one_line(error))

    @property
    def health(self) -> Health:
        """Whether a request that comes now can be expected to be answered, and why not."""
        if self.is_ready:
            health = self.backend.status.health
            if health.state == "healthy" and (trouble := self.observer.emitter.failing):
                return Health("degraded", f"telemetry can't be written: {trouble}")
            return health
        if self.loading.done():
            return Health("unhealthy", "the model could not be loaded")
        return Health("loading")

    @property
    def model(self) -> str:
        """The model's name, as far as it is known."""
        told = self.settings
        return self.backend.info.name if self.is_ready else told.served_model_name or told.model

    @property
    def model_loaded(self) -> bool:
        """Whether the model is in memory; an idle one may have been unloaded."""
        models = self.backend.status.load.models if self.is_ready else ()
        own = [each.state for each in models if each.name == self.model]
        return self.is_ready and all(state == "loaded" for state in own)

    @property
    def uptime_s(self) -> float:
        """Seconds since the server was made."""
        return time.monotonic() - self._began_s

    @property
    def load(self) -> Load:
        """The present activity, for `tick`, `/v1/status` and `/metrics`."""
        load = self.backend.status.load
        if not self.is_ready:
            return load
        answers = self.caches.tiers.ram
        return replace(load, exact_entries=len(answers), exact_bytes=answers.n_bytes)

    async def _tick(self) -> None:
        idle_s, n_requests = -TICK_S, 0
        while True:
            with self.upkeep.guarded("the backend's tick"):
                self.backend.tick()
            with self.upkeep.guarded("the caches' tick"):
                self.caches.tick()
            with self.upkeep.guarded("telemetry's tick"):
                load = self.load
                self.observer.look(load)
                n_before, n_requests = n_requests, self.observer.totals.requests
                is_idle = not (load.active or load.queued or n_requests > n_before)
                idle_s = idle_s + TICK_S if is_idle else 0.0
                if idle_s % IDLE_TICK_S == 0:
                    self.observer.tick(load, process_bytes())
            await asyncio.sleep(TICK_S)
