"""`--warm`: prefills system prompts before the first request, and gives way to requests.

The prompts are the most frequent recent ones of telemetry, or those of a file. An interrupted
prefill keeps its computed part, and continues from there when the engine is idle again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path

from mlxdeck.server.backends.base import Announce
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import ServerError, one_line
from mlxdeck.server.lenient_json import loads
from mlxdeck.server.lifecycle.upkeep import Upkeep
from mlxdeck.server.observe.recent_prompts import systems_seen
from mlxdeck.server.pipeline import Pipeline

log = logging.getLogger(__name__)

POLL_S = 0.02
RECENT = "recent"
FILLED = {"model": "", "max_tokens": 1, "messages": [{"role": "user", "content": "."}]}
"""Required fields of a request that don't affect the prefill."""


class Warmer:
    """Fills the prefix cache. For the event loop."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._backend = pipeline.backend

    async def run(self, settings: Settings, announce: Announce, upkeep: Upkeep) -> None:
        """Find the prompts and prefill them, one after another; one that fails costs no other."""
        prompts: list[list[int]] = []
        with upkeep.guarded("finding prompts to prefill"):
            if settings.warm == RECENT:
                prompts = await self._recent(settings)
            else:
                prompts = await self._given(Path(settings.warm), announce)
        if not prompts:
            announce("warm: no system prompts to prefill")
        for number, tokens in enumerate(prompts, 1):
            what = f"warm: system prompt {number} of {len(prompts)}, {len(tokens)} tokens"
            announce(what)
            with upkeep.guarded(what):
                try:
                    await self._prefill(tokens)
                except ServerError as error:
                    announce(f"{what}: {error.message}")
                else:
                    announce(f"{what}: ready")

    async def _recent(self, settings: Settings) -> list[list[int]]:
        seen = await asyncio.to_thread(systems_seen, settings.telemetry_folder)
        prompts: list[list[int]] = []
        for system, tools in seen:
            tokens = await self._backend.known_tokens(system, tools)
            if tokens and len(prompts) < settings.warm_prompts:
                prompts.append(tokens)
        return prompts

    async def _given(self, path: Path, announce: Announce) -> list[list[int]]:
        """One request a line, in the shape of the Messages API; `messages` may be left out."""
        dialect = DIALECTS["anthropic"]
        prompts = []
        try:
            lines = (await asyncio.to_thread(path.read_text, "utf-8")).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            announce(f"warm: {path} can't be read: {one_line(error)}")
            return []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                fields = loads(line)
                chat = dialect.decode(json.dumps(FILLED | fields).encode(), {})
                prompts.append(await self._pipeline.shared_tokens(chat))
            except (ValueError, TypeError) as error:
                announce(f"warm: {path}, line {number}: {error}")
            except ServerError as error:
                announce(f"warm: {path}, line {number}: {error.message}")
        return [tokens for tokens in prompts if tokens]

    async def _prefill(self, tokens: list[int]) -> None:
        """Prefill one prompt, in as many parts as other requests allow."""
        while True:
            # Polled, so that the path of requests needs no code for this.
            while self._others(0):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            work = asyncio.create_task(self._backend.prefill(tokens))
            try:
                while not work.done() and not self._others(1):
                    await asyncio.wait([work], timeout=POLL_S)
            finally:
                interrupted = work.cancel()
                with suppress(asyncio.CancelledError):
                    await work
            if not interrupted:
                return

    def _others(self, ours: int) -> bool:
        """Whether other requests have work for the engine."""
        load = self._backend.status.load
        return load.active + (load.queued or 0) > ours
