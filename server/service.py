"""Everything behind the routes, put together: engine, scheduler, caches, pipeline, observer.

`app` turns HTTP into calls of this and nothing more. Lives on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mlxdeck.server.backends.local.engine.api import Engine, ModelInfo, Progress, SamplingParams
from mlxdeck.server.backends.local.prompt.template_trial import TemplateTrial, try_template
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.cache.cache_keys import digest
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import EngineFailed, Overloaded, one_line
from mlxdeck.server.incoming_bodies import IncomingBodies
from mlxdeck.server.observe.observer import Emitter, Load, Observer
from mlxdeck.server.pipeline import Pipeline
from mlxdeck.server.tiers import Tiers
from mlxdeck.server.warmup import Warmer

log = logging.getLogger(__name__)

# A client that comes while the model loads is kept waiting this long, then told to come back.
LOAD_WAIT_S = 60.0
TICK_S = 1.0
IDLE_TICK_S = 10.0
DRAWING = (
    *("canonical_off", "inline_control_tokens", "loop_guard"),
    *("max_kv_tokens", "max_output_tokens"),
)
"""Settings that change answers, but for those that the model is asked for where they are open."""

OpenEmitter = Callable[[ModelInfo], Emitter]


class Service:
    """One loaded model and all that serves it."""

    pipeline: Pipeline
    observer: Observer
    tiers: Tiers
    template: TemplateTrial
    """All set once the model is loaded; `ready` waits for that."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        open_emitter: OpenEmitter,
    ) -> None:
        self.settings = settings
        self._engine = engine
        self._open_emitter = open_emitter
        self._began_s = time.monotonic()
        self.info: ModelInfo | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.bodies = IncomingBodies(settings.max_body_bytes, settings.max_body_bytes_in_flight)
        self._opened = AsyncExitStack()
        """What has to be closed once the engine stands, also if starting went no further."""
        self.scheduler = Scheduler(
            engine,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            prefill_chunk_tokens=settings.prefill_chunk_tokens,
            ping_s=settings.ping_s,
            stall_s=settings.stall_s,
        )

    async def start(self, progress: Progress) -> None:
        """Begin to load the model; returns at once."""
        self.loading = asyncio.create_task(self._load(progress))

    async def _load(self, progress: Progress) -> None:
        found: list[tuple[ModelInfo, int]] = []

        def loaded(info: ModelInfo) -> None:
            # On the engine thread: how much memory is free is known only now.
            found.append((info, self.settings.prefix_cache_bytes or self._engine.spare_bytes()))

        self.scheduler.start(progress, loaded)
        await self.scheduler.ready
        info, prefix_bytes = found[0]
        emitter = self._open_emitter(info)
        self._opened.push_async_callback(asyncio.to_thread, emitter.close)
        self.observer = Observer(emitter, info.name, self.settings.capture)
        # Not on the loop either: an index of gigabytes takes a moment to open.
        self.tiers = await asyncio.to_thread(
            Tiers, self.settings, self._engine, info, self.scheduler, prefix_bytes
        )
        self._opened.push_async_callback(self.tiers.close)
        sampling = self._sampling(info)
        tokenizer = self._engine.tokenizer
        tool_format = choose_format(self.settings.tool_format, tokenizer.traits)
        # Not on the loop, which it would hold up for a moment.
        template = await asyncio.to_thread(try_template, tokenizer, tool_format)
        self.pipeline = Pipeline(
            info,
            self._engine.tokenizer,
            self.scheduler,
            caches=self.tiers.caches,
            rules_off=self.settings.canonical_off.split(","),
            sampling=sampling,
            max_output_tokens=self.settings.max_output_tokens,
            signature=answer_signature(info, self.settings, sampling, tool_format.name)
            + digest(tokenizer.traits.source),
            tool_format=tool_format,
            template=template,
            inline=self.settings.inline_control_tokens,
            grammars=self._engine.grammars,
            loop_guard=self.settings.loop_guard,
            ping_s=self.settings.ping_s,
        )
        warmer = Warmer(self.pipeline, self.scheduler, self.tiers.caches.systems)
        self.template = template
        self.info = info
        self._tasks.append(asyncio.create_task(self._tick()))
        about = "; ".join(part for part in (f"model {info.name}", template.summary) if part)
        progress(f"mlxdeck ready on {self.settings.url} ({about})")
        if self.settings.warm:
            self._tasks.append(asyncio.create_task(warmer.run(self.settings, progress)))

    def _sampling(self, info: ModelInfo) -> SamplingParams:
        """How requests are sampled that don't say: as the user set it, else as the model asks."""
        told = self.settings
        return SamplingParams(
            info.temperature if told.temperature is None else told.temperature,
            info.top_p if told.top_p is None else told.top_p,
            info.top_k if told.top_k is None else told.top_k,
        )

    async def stop(self) -> None:
        """End everything, in the order that loses nothing."""
        self.loading.cancel()
        for task in self._tasks:
            task.cancel()
        if self.info is not None:
            self.pipeline.close()
        await self.scheduler.stop()
        await self._opened.aclose()

    async def ready(self) -> None:
        """Wait for the model.

        Raises:
            Overloaded: It takes too long; the client should come back.
            EngineFailed: It could not be loaded.
        """
        await asyncio.wait({self.loading}, timeout=LOAD_WAIT_S)
        if not self.loading.done():
            raise Overloaded("the model is still loading", retry_after_s=15)
        if self.loading.cancelled():
            raise EngineFailed("the server is being stopped")
        if error := self.loading.exception():
            # Not raised itself: it would collect a traceback of each request.
            raise EngineFailed(one_line(error))

    @property
    def failed(self) -> bool:
        """Whether the model could not be loaded."""
        return self.info is None and self.loading.done()

    @property
    def uptime_s(self) -> float:
        """Seconds since the server was made."""
        return time.monotonic() - self._began_s

    @property
    def load(self) -> Load:
        """What is going on now, for `tick`, `/v1/status` and `/metrics`."""
        status, memory = self.scheduler.status, self.scheduler.memory
        answers, prefixes = self.tiers.caches.exact.ram, self.tiers.caches.states.ram
        return Load(
            active=status.active,
            queued=status.queued,
            output_tokens=status.output_tokens,
            prefill_tokens=status.prefill_tokens,
            exact_entries=len(answers),
            exact_bytes=answers.n_bytes,
            prefix_entries=len(prefixes),
            prefix_bytes=prefixes.n_bytes,
            memory_active_bytes=memory.active_bytes,
            memory_peak_bytes=memory.peak_bytes,
        )

    async def _tick(self) -> None:
        idle_s = -TICK_S
        while True:
            load = self.load
            self.tiers.tick()
            idle_s = 0.0 if load.active or load.queued else idle_s + TICK_S
            if idle_s % IDLE_TICK_S == 0:
                self.observer.tick(load, process_bytes())
            await asyncio.sleep(TICK_S)

    def health(self) -> dict[str, Any]:
        """The body of `GET /health`; its shape is a contract."""
        hits, total = (self.tiers.hits, self.tiers.lookups) if self.info else (0, 0)
        state, reason = self._state()
        return {
            "status": state,
            **({"reason": reason} if reason else {}),
            "model": self.info.name if self.info else self.settings.model,
            "model_loaded": self.info is not None,
            "cache": {
                "hits": hits,
                "misses": total - hits,
                "total_requests": total,
                "hit_rate": f"{100 * hits / total if total else 0:.1f}%",
                "cached_items": self.load.exact_entries if self.info else 0,
            },
        }

    def _state(self) -> tuple[str, str]:
        """In a word, and why if it isn't well."""
        if self.info is None:
            return (
                ("unhealthy", "the model could not be loaded") if self.failed else ("loading", "")
            )
        health = self.scheduler.health
        return health.state, health.reason

    def models(self) -> dict[str, Any]:
        """The body of `GET /v1/models`: the loaded model, in Anthropic's and OpenAI's shape."""
        name = self.info.name if self.info else self.settings.model
        entry = {
            "id": name,
            "type": "model",
            "object": "model",
            "display_name": name,
            "created_at": "1970-01-01T00:00:00Z",
            "created": 0,
            "owned_by": "mlxdeck",
        }
        return {
            "object": "list",
            "data": [entry],
            "has_more": False,
            "first_id": name,
            "last_id": name,
        }

    def status(self) -> dict[str, Any]:
        """The body of `GET /v1/status`."""
        body: dict[str, Any] = {
            "status": self._state()[0],
            "uptime_s": round(self.uptime_s, 3),
            "pid": os.getpid(),
            "versions": versions(),
            "limits": {
                "max_batch": self.settings.max_batch,
                "max_waiting": self.settings.max_waiting,
                "prefill_chunk_tokens": self.settings.prefill_chunk_tokens,
                "max_body_bytes": self.settings.max_body_bytes,
            },
        }
        if self.info is None:
            return {**body, "model": self.settings.model, "model_path": None}
        load = self.load
        return {
            **body,
            "model": self.info.name,
            "model_path": self.info.path,
            "context_tokens": self.info.context_tokens,
            "context": {
                "source": self.info.context_source,
                "is_guess": self.info.context_is_guess,
                "kv_bytes": self.info.kv_bytes,
            },
            "device": self.info.device,
            "chat_template": self.template.report(),
            "active": load.active,
            "queued": load.queued,
            "looped": self.observer.totals.looped,
            "engine_rebuilds": self.scheduler.n_rebuilds,
            "lost_states": self.scheduler.n_lost_states,
            "telemetry": str(self.observer.emitter.path or "") or None,
            "memory": {
                "active_bytes": load.memory_active_bytes,
                "peak_bytes": load.memory_peak_bytes,
                "process_bytes": process_bytes(),
                "exact_cache_bytes": load.exact_bytes,
                "prefix_cache_bytes": load.prefix_bytes,
            },
        }


def answer_signature(
    info: ModelInfo, settings: Settings, sampling: SamplingParams, tool_format: str
) -> str:
    """What draws an answer beside the request: the model, and what the server was told of it."""
    told = {name: getattr(settings, name) for name in DRAWING}
    return f"{info.signature} {info.context_tokens} {sampling} {tool_format} {told}"


def versions() -> dict[str, str]:
    """Versions of what decides how the server behaves."""
    found = {"python": platform.python_version()}
    for name in ("mlxdeck", "mlx", "mlx-lm", "sanic"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def process_bytes() -> int:
    """Resident memory of this process; its highest so far where the system tells no more."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
