"""A request on its way to the engine: rendered, counted, and with a lease on its known prefix.

It takes one trip to the prompt thread, and one restore if the disk has a longer prefix than RAM.
Long requests, and those whose tools may need a new grammar, have a thread of their own: short
requests don't wait for them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

from mlxdeck.server.backends.local.engine.api import Grammars, TemplateTraits
from mlxdeck.server.backends.local.handover import Handover
from mlxdeck.server.backends.local.kv.kv_cache import Found, KVCache, Wanted
from mlxdeck.server.backends.local.kv.prompt_digests import PromptDigests
from mlxdeck.server.backends.local.kv.system_prompts import SystemPrompts
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.backends.local.prompt.renderer import Prompt, Renderer
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import (
    ConstraintPlan,
    plan_constraint,
)
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.cache.cache_keys import digest
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.checkpoints import Workers
from mlxdeck.server.request_facts import BlockDigests, Digests, LookedUp, Miss

MAX_PLANNED = 256
"""Sets of tools and answers whose grammars are known to be compiled."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A request that can be queued, and how long that took. Its lease is the owner's to release."""

    prompt: Prompt
    plan: ConstraintPlan
    found: Found
    tokenize_s: float
    lease_s: float
    tool_tokens: tuple[int, ...] = ()
    """Tokens of each tool's description, in the request's order."""
    blocks: BlockDigests = BlockDigests()
    message_starts: tuple[int, ...] = ()
    boundaries: tuple[int, ...] = ()
    """Of the prompt; see `PromptSegments`."""

    def looked_up(self) -> LookedUp:
        """The facts of the lookup, for the trace."""
        layout = self.prompt.layout
        return LookedUp(
            "prefix",
            tier=self.found.tier,
            miss=self.found.miss,
            duration_s=self.lease_s,
            matched_tokens=self.found.lease.n_cached,
            prompt_tokens=len(self.prompt.tokens),
            shared_tokens=layout.shared_tokens,
            message_starts=self.message_starts,
            tail_start=layout.tail_start,
            tool_tokens=self.tool_tokens,
            blocks=self.blocks,
            regrouped=self.prompt.unforeseen,
        )


@dataclass(frozen=True, slots=True)
class _Planned:
    prompt: Prompt
    plan: ConstraintPlan
    tokenize_s: float
    tool_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Rendered:
    planned: _Planned
    found: Found
    wanted: Wanted
    blocks: BlockDigests
    message_starts: tuple[int, ...]
    boundaries: tuple[int, ...]

    def release(self) -> None:
        self.found.lease.release()


class Preparation:
    """Prepares requests. For the event loop."""

    def __init__(
        self,
        short: Executor,
        long: Executor,
        renderer: Renderer,
        traits: TemplateTraits,
        tool_format: ToolFormat,
        grammars: Grammars,
        states: KVCache,
        systems: SystemPrompts | None,
        digests: PromptDigests | None = None,
    ) -> None:
        """`short` is the prompt thread for what is short, `long` the one for all else."""
        self._short = Workers(short)
        self._long = Workers(long, long=True)
        self._renderer = renderer
        self._traits = traits
        self._tool_format = tool_format
        self._grammars = grammars
        self._states = states
        self._systems = systems
        self._digests = digests
        self._planned: OrderedDict[str, None] = OrderedDict()

    async def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt has."""
        workers = self._long if request.is_long else self._short
        return await workers.run(partial(self._renderer.count, request))

    async def shared_tokens(self, request: ChatRequest) -> list[int]:
        """The tokens of a request's system prompt and tools."""
        prompt = await self._long.run(partial(self._renderer.render, request))
        return prompt.tokens[: prompt.layout.shared_tokens]

    async def prepare(self, request: ChatRequest, parts: Digests) -> Ready:
        """Render, count, and lease what is known.

        Raises:
            BadRequest, PromptTooLong: As the renderer does.
            EngineFailed: The engine is down, and was needed to read a state from disk.
        """
        began_s = time.monotonic()
        rendered = await self._render(request, parts)
        planned, found = rendered.planned, rendered.found
        try:
            found = await self._states.restore(rendered.wanted, found)
            lease_s = time.monotonic() - began_s - planned.tokenize_s
            miss = self._miss(found, planned.prompt, parts)
        except BaseException:
            found.lease.release()
            raise
        found = replace(found, miss=miss)
        return Ready(
            planned.prompt,
            planned.plan,
            found,
            planned.tokenize_s,
            lease_s,
            planned.tool_tokens,
            rendered.blocks,
            rendered.message_starts,
            rendered.boundaries,
        )

    def _miss(self, found: Found, prompt: Prompt, parts: Digests) -> Miss:
        """Why not more was found; the system prompt is remembered."""
        miss = found.miss
        if systems := self._systems:
            if miss.reason == "cold" and systems.of_another_model(parts):
                miss = Miss("model_changed")
            systems.note(parts, prompt.tokens, prompt.layout.shared_tokens)
        return miss

    async def _render(self, request: ChatRequest, parts: Digests) -> _Rendered:
        handover: Handover[_Rendered] = Handover(_Rendered.release)
        kind = _grammar_kind(request, parts)
        planned = None
        if request.is_long or (kind and kind not in self._planned):
            planned = await self._long.run(partial(self._plan, request))
            self._planned[kind] = None
            if len(self._planned) > MAX_PLANNED:
                self._planned.popitem(last=False)
        try:
            await self._short.run(lambda: handover.put(self._find(planned or self._plan(request))))
        except BaseException:
            # The client has left: the thread may still be at it, and lease something.
            handover.abandon()
            raise
        return handover.take()

    def _plan(self, request: ChatRequest) -> _Planned:
        """On a prompt thread."""
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
        sizes = prompt.layout.n_tokens() if request.tools else {}
        tools = tuple(sizes.get(f"tools.{tool.name}", 0) for tool in request.tools)
        return _Planned(prompt, plan, time.monotonic() - began_s, tools)

    def _find(self, planned: _Planned) -> _Rendered:
        """On the prompt thread for short work: the only one that leases."""
        prompt = planned.prompt
        wanted = Wanted(prompt.tokens, prompt.layout.part_at, prompt.layout.tail_start)
        found = self._states.find(wanted)
        blocks = self._digests.of(pack(prompt.tokens)) if self._digests else BlockDigests()
        layout = prompt.layout
        starts, boundaries = layout.message_starts(), layout.boundaries()
        return _Rendered(planned, found, wanted, blocks, starts, boundaries)


def _grammar_kind(request: ChatRequest, parts: Digests) -> str:
    """A name for what the grammar of a request is made of; empty if it has none."""
    if not request.tools and request.answer_schema is None:
        return ""
    choice = request.tool_choice
    answer = f"{digest(request.answer_schema)} {request.answer_field} {request.answer_strict}"
    return f"{parts.tools} {choice.mode} {choice.name} {answer}"
