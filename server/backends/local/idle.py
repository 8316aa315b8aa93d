"""Unloads a model that nobody has asked for a while; the next request has it loaded again.

Its KV states are written to disk first, as far as time allows; the others are given up and counted.
Tokenizer, template and grammars stay: tokens are counted, and prompts made, without the weights.
"""

from __future__ import annotations

import asyncio
import logging
import time

from mlxdeck.server.backends.local.kv_tiers import KVTiers
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.errors import EngineFailed
from mlxdeck.server.load import ModelState

log = logging.getLogger(__name__)

WRITE_S = 60.0
"""For the states to be written. What a slower disk doesn't take is given up."""


class IdleUnload:
    """Watches over one model. For the event loop."""

    def __init__(self, name: str, after_s: float, scheduler: Scheduler, kv: KVTiers) -> None:
        """`after_s` is how long nobody has to have asked; 0 is for ever."""
        self._name = name
        self._after_s = after_s
        self._scheduler = scheduler
        self._kv = kv
        self._unloading: asyncio.Task[None] | None = None
        # Starting takes a while after the model is loaded, and nobody could ask until now.
        scheduler.touch()

    def tick(self) -> None:
        """Begin to unload the model, if it is time. Called every second."""
        if self._unloading is None and self._is_due():
            self._unloading = asyncio.create_task(self._unload())

    def stop(self) -> None:
        """Begin nothing more."""
        self._after_s = 0.0
        if self._unloading is not None:
            self._unloading.cancel()

    def _is_due(self) -> bool:
        model, after_s = self._scheduler.model, self._after_s
        return bool(after_s) and model.state == "loaded" and self._scheduler.idle_s >= after_s

    async def _unload(self) -> None:
        try:
            await self._kv.write_all(WRITE_S)
            # Somebody may have come, and gone again.
            if self._is_due():
                await self._scheduler.unload(self._give_up_states)
        except EngineFailed as error:
            log.warning("%s is not unloaded: %s", self._name, error.message)
        finally:
            self._unloading = None

    def _give_up_states(self) -> bool:
        """Free the states of a model that is still idle. Engine thread."""
        if not self._is_due():
            return False
        self._kv.states.ram.unload()
        return True

    @property
    def model(self) -> ModelState:
        """How the model is."""
        told, now_s = self._scheduler.model, time.monotonic()
        return ModelState(
            self._name,
            told.state,
            since_s=now_s - told.since_s,
            idle_s=self._scheduler.idle_s,
            n_loads=told.n_loads,
            load_s=told.load_s,
            n_unloads=told.n_unloads,
            freed_bytes=told.freed_bytes,
            n_failed=told.n_failed,
            failure=told.failure,
        )
