"""A request on its way to the engine: rendered, counted, and what is known of its prompt leased.

One trip to the prompt thread, and one restore where the disk knows more than RAM does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

from mlxdeck.server.backends.local.engine.api import Grammars, TemplateTraits
from mlxdeck.server.backends.local.handover import Handover
from mlxdeck.server.backends.local.kv.kv_cache import Found, KVCache, Wanted
from mlxdeck.server.backends.local.kv.system_prompts import SystemPrompts
from mlxdeck.server.backends.local.prompt.renderer import Prompt, Renderer
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import (
    ConstraintPlan,
    plan_constraint,
)
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.request_facts import Digests, LookedUp, Miss

_A = TypeVar("_A")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ready:
    """A request that can be queued, and how long that took. Its lease is the owner's to release."""

    prompt: Prompt
    plan: ConstraintPlan
    found: Found
    tokenize_s: float
    lease_s: float

    def looked_up(self) -> LookedUp:
        """What the trace is told of the lookup."""
        layout = self.prompt.layout
        starts = (part.start for part in layout.parts if part.name.startswith("messages."))
        return LookedUp(
            "prefix",
            tier=self.found.tier,
            miss=self.found.miss,
            duration_s=self.lease_s,
            matched_tokens=self.found.lease.n_cached,
            prompt_tokens=len(self.prompt.tokens),
            shared_tokens=layout.shared_tokens,
            message_starts=tuple(starts),
            regrouped=self.prompt.unforeseen,
        )


@dataclass(frozen=True, slots=True)
class _Rendered:
    prompt: Prompt
    plan: ConstraintPlan
    found: Found
    wanted: Wanted
    tokenize_s: float

    def release(self) -> None:
        self.found.lease.release()


class Preparation:
    """Prepares requests. For the event loop."""

    def __init__(
        self,
        pool: Executor,
        renderer: Renderer,
        traits: TemplateTraits,
        tool_format: ToolFormat,
        grammars: Grammars,
        states: KVCache,
        systems: SystemPrompts | None,
    ) -> None:
        """`pool` is the prompt thread."""
        self._pool = pool
        self._renderer = renderer
        self._traits = traits
        self._tool_format = tool_format
        self._grammars = grammars
        self._states = states
        self._systems = systems

    async def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt has."""
        return await self._in_pool(self._renderer.count, request)

    async def shared_tokens(self, request: ChatRequest) -> list[int]:
        """The tokens of a request's system prompt and tools."""
        prompt = await self._in_pool(self._renderer.render, request)
        return prompt.tokens[: prompt.layout.shared_tokens]

    async def prepare(self, request: ChatRequest, parts: Digests) -> Ready:
        """Render, count, and lease what is known.

        Raises:
            BadRequest, PromptTooLong: As the renderer does.
            EngineFailed: The engine is down, and was needed to read a state from disk.
        """
        began_s = time.monotonic()
        rendered = await self._render(request)
        try:
            found = await self._states.restore(rendered.wanted, rendered.found)
        except BaseException:
            rendered.release()
            raise
        lease_s = time.monotonic() - began_s - rendered.tokenize_s
        try:
            miss = self._miss(found, rendered.prompt, parts)
        except BaseException:
            found.lease.release()
            raise
        found = replace(found, miss=miss)
        return Ready(rendered.prompt, rendered.plan, found, rendered.tokenize_s, lease_s)

    def _miss(self, found: Found, prompt: Prompt, parts: Digests) -> Miss:
        """Why not more was found; the system prompt is remembered."""
        miss = found.miss
        if systems := self._systems:
            if miss.reason == "cold" and systems.of_another_model(parts):
                miss = Miss("model_changed")
            systems.note(parts, prompt.tokens, prompt.layout.shared_tokens)
        return miss

    async def _render(self, request: ChatRequest) -> _Rendered:
        handover: Handover[_Rendered] = Handover(_Rendered.release)
        try:
            await self._in_pool(lambda asked: handover.put(self._rendered(asked)), request)
        except BaseException:
            # The client has left: the thread may still be at it, and lease something.
            handover.abandon()
            raise
        return handover.take()

    def _rendered(self, request: ChatRequest) -> _Rendered:
        """On the prompt thread."""
        began_s = time.monotonic()
        prompt, traits = self._renderer.render(request), self._traits
        plan = plan_constraint(
            request,
            self._tool_format,
            self._grammars,
            begun=prompt.begun,
            thinking=(traits.think_start, traits.think_end) if traits.think_end else (),
            in_thinking=prompt.in_thinking,
        )
        tokenize_s = time.monotonic() - began_s
        layout = prompt.layout
        wanted = Wanted(prompt.tokens, layout.part_at, layout.tail_start)
        return _Rendered(prompt, plan, self._states.find(wanted), wanted, tokenize_s)

    async def _in_pool(self, work: Callable[[_A], _T], argument: _A) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, argument)
