"""One request, in a straight line: the only module that joins caches, prompt, scheduler and tools.

`run` yields `Started` first and `Finished` last, or raises one `ServerError`. Closing it at any
point cancels the request. The event loop never runs the tokenizer, the template or the model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from mlxdeck.server.backends.local.engine.api import (
    Grammars,
    ModelInfo,
    SamplingParams,
    SequenceSpec,
    ThinkingLimit,
    Tokenizer,
)
from mlxdeck.server.backends.local.kv.kv_cache import Found, KVCache
from mlxdeck.server.backends.local.kv.miss_reason import Miss
from mlxdeck.server.backends.local.kv.system_prompts import SystemPrompts
from mlxdeck.server.backends.local.prompt.renderer import Prompt, Renderer
from mlxdeck.server.backends.local.prompt.template_trial import TemplateTrial
from mlxdeck.server.backends.local.scheduler.loop_guard import LoopGuard
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.backends.local.scheduler.sequence import Done, Sequence, Waiting
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import (
    ConstraintPlan,
    plan_constraint,
)
from mlxdeck.server.backends.local.toolcalls.finish import finished
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.cache.answers.memory import complete_answer
from mlxdeck.server.cache.answers.single_flight import SingleFlight
from mlxdeck.server.cache.answers.tiered import TieredAnswers
from mlxdeck.server.cache.cache_keys import Digests, answer_key, digests
from mlxdeck.server.canonicalize import SCHEMA_ORDER, canonical
from mlxdeck.server.chat import ChatRequest, Event, Finished, Ping, Sampling, Started, Usage
from mlxdeck.server.errors import BadRequest, EngineFailed
from mlxdeck.server.observe.trace import Trace

_A = TypeVar("_A")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A request that can be queued, and how long that took."""

    prompt: Prompt
    found: Found
    held: ConstraintPlan
    tokenize_s: float
    lease_s: float


@dataclass(frozen=True, slots=True)
class Caches:
    """What has been computed already, and is asked before anything is computed again."""

    exact: TieredAnswers
    states: KVCache
    systems: SystemPrompts | None


class Pipeline:
    """Answers requests with a loaded model. For the event loop."""

    def __init__(
        self,
        info: ModelInfo,
        tokenizer: Tokenizer,
        scheduler: Scheduler,
        *,
        caches: Caches,
        rules_off: Collection[str],
        signature: str,
        tool_format: ToolFormat,
        grammars: Grammars,
        sampling: SamplingParams,
        max_output_tokens: int,
        loop_guard: bool,
        ping_s: float,
        template: TemplateTrial,
        inline: bool,
    ) -> None:
        """`signature` changes with whatever else but the request draws an answer."""
        self.info = info
        self.caches = caches
        self._rules_off = rules_off
        self._flights = SingleFlight()
        self._scheduler = scheduler
        self._traits = tokenizer.traits
        self._renderer = Renderer(
            tokenizer,
            tool_format,
            info.context_tokens,
            max_output_tokens,
            ordered=SCHEMA_ORDER not in rules_off,
            known=template.regroupings,
            inline=inline,
        )
        self._signature = signature
        self._sampling = sampling
        self._tool_format = tool_format
        self._grammars = grammars
        self._loop_guard = loop_guard
        self._ping_s = ping_s
        # One thread: tokenizers are not safe to share, and more would only contend with the model.
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prompt")

    async def run(
        self, request: ChatRequest, trace: Trace, *, fresh: bool = False
    ) -> AsyncGenerator[Event]:
        """Answer a request; `fresh` asks for a new answer even where one is known.

        Raises:
            ServerError: One, and nothing after it.
        """
        request, removed = canonical(request, self._rules_off)
        check_biases(request.sampling, self.info)
        parts = digests(request)
        regrouped = self._renderer.foreseen(request)
        trace.accepted(request, parts, removed, regrouped, self._scheduler.status.queued)
        async with aclosing(self._source(parts, request, trace, fresh=fresh)) as events:
            async for event in events:
                trace.saw(event)
                yield event

    def _source(
        self, parts: Digests, request: ChatRequest, trace: Trace, *, fresh: bool
    ) -> AsyncGenerator[Event]:
        """Where the answer comes from: known, under way for somebody else, or to be found."""
        began_s = time.monotonic()
        now = datetime.now().astimezone()
        clock = [now.strftime(each) for each in self._traits.clock_formats]
        key = answer_key(parts, request, self._signature, clock)
        exact = self.caches.exact
        if fresh or not exact.enabled:
            trace.exact(key, reason="bypassed" if fresh else "disabled")
            return self._answer(key, parts, request, trace)
        if answer := exact.known(key):
            trace.exact(key, tier="ram", duration_s=time.monotonic() - began_s)
            return answer.replay()
        if flight := self._flights.get(key):
            trace.exact(key, tier="flight", duration_s=time.monotonic() - began_s)
            return flight.join()
        return self._flights.start(key, self._find(key, parts, request, trace)).follow()

    async def _find(
        self, key: str, parts: Digests, request: ChatRequest, trace: Trace
    ) -> AsyncGenerator[Event]:
        """Ask the slower caches, then generate."""
        began_s = time.monotonic()
        with self._scheduler.expecting():
            found = await self.caches.exact.find(key)
        duration_s = time.monotonic() - began_s
        if found:
            answer, tier = found
            trace.exact(key, tier=tier, duration_s=duration_s)
            source = answer.replay()
        else:
            reason = self.caches.exact.miss_reason(key)
            trace.exact(key, reason=reason, duration_s=duration_s)
            source = self._answer(key, parts, request, trace)
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def _answer(
        self, key: str, parts: Digests, request: ChatRequest, trace: Trace
    ) -> AsyncGenerator[Event]:
        """Generate an answer, and remember it if it is one to repeat."""
        began_s = time.monotonic()
        with self._scheduler.expecting():
            ready = await self._prepare(parts, request)
        # From here on the lease is ours: nothing may come between.
        try:
            prompt, found = ready.prompt, ready.found
            trace.prepared(len(prompt.tokens), found.lease.n_cached, ready.tokenize_s)
            trace.prefix(found.lease.n_cached, prompt, found.miss, found.tier, ready.lease_s)
            sent: list[Event] = []
            async with aclosing(self._generate(request, ready, trace)) as events:
                async for event in events:
                    sent.append(event)
                    if isinstance(event, Finished):
                        self._remember(key, sent, time.monotonic() - began_s)
                    yield event
        finally:
            ready.found.lease.release()

    def _remember(self, key: str, sent: list[Event], cost_s: float) -> None:
        if answer := complete_answer(sent, cost_s):
            self.caches.exact.put(key, answer)
        else:
            self.caches.exact.refuse(key)

    async def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt of a request has."""
        request, _ = canonical(request, self._rules_off)
        return await self._in_pool(self._renderer.count, request)

    async def shared_tokens(self, request: ChatRequest) -> list[int]:
        """The tokens of a request's system prompt and tools."""
        request, _ = canonical(request, self._rules_off)
        prompt = await self._in_pool(self._renderer.render, request)
        return prompt.tokens[: prompt.layout.shared_tokens]

    async def prefill(self, tokens: list[int]) -> None:
        """Compute the state of a system prompt, and keep it; cancelled, what there is of it."""
        states, n = self.caches.states, len(tokens)
        await states.recall(tokens)
        # One token more than wanted has to be run, and one is drawn: the state is cut back to n.
        run_tokens = [*tokens, tokens[0]]
        lease = states.ram.lease(run_tokens)
        try:
            if lease.n_cached < n:
                run = SequenceSpec(
                    run_tokens, lease.n_cached, lease.state, 1, SamplingParams(), (n,)
                )
                job = Sequence(run, lambda kept: states.keep(kept, n, lease, at_most_tokens=n))
                async with self._scheduler.submit(job) as chunks:
                    async for _ in chunks:
                        pass
        finally:
            lease.release()

    def close(self) -> None:
        """Stop the prompt thread."""
        self._pool.shutdown(cancel_futures=True)

    async def _in_pool(self, work: Callable[[_A], _T], argument: _A) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, argument)

    async def _prepare(self, parts: Digests, request: ChatRequest) -> _Ready:
        """Render and count, and lease what is known of the prompt."""
        states, began_s = self.caches.states, time.monotonic()
        prompt, held = await self._in_pool(self._rendered, request)
        rendered_s = time.monotonic()
        read = await states.recall(prompt.tokens)
        systems, layout = self.caches.systems, prompt.layout
        changed = systems is not None and systems.of_another_model(parts)
        if systems:
            systems.note(parts, prompt.tokens, layout.shared_tokens)
        found = await states.lease(
            self._pool, prompt.tokens, layout.part_at, layout.tail_start, read=read
        )
        if changed and found.miss.reason == "cold":
            found = replace(found, miss=Miss("model_changed"))
        return _Ready(prompt, found, held, rendered_s - began_s, time.monotonic() - rendered_s)

    def _rendered(self, request: ChatRequest) -> tuple[Prompt, ConstraintPlan]:
        prompt = self._renderer.render(request)
        traits = self._traits
        held = plan_constraint(
            request,
            self._tool_format,
            self._grammars,
            begun=prompt.begun,
            thinking=(traits.think_start, traits.think_end) if traits.think_end else (),
            in_thinking=prompt.in_thinking,
        )
        return prompt, held

    async def _generate(
        self, request: ChatRequest, ready: _Ready, trace: Trace
    ) -> AsyncGenerator[Event]:
        job = self._job(request, ready)
        trace.follow(job)
        trace.unconstrained, trace.loose = ready.held.refused, ready.held.loose
        splitter = self._splitter(request, ready)
        cut = looped = False
        async with self._scheduler.submit(job) as chunks:
            yield Started(self._usage(job))
            for piece in splitter.begin(ready.prompt.begun):
                yield piece
            sent_s = time.monotonic()
            async for chunk in chunks:
                if isinstance(chunk, Waiting):
                    yield Ping()
                    continue
                if trace.first_token():
                    new_tokens = len(job.run.tokens) - job.run.n_cached
                    self.caches.states.timed(job.times.prefill_s, new_tokens)
                if isinstance(chunk, Done):
                    cut, looped = chunk.reason != "stop", chunk.reason == "loop"
                    pieces = splitter.close(complete=not cut)
                else:
                    pieces = splitter.feed(chunk.text)
                for piece in pieces:
                    yield piece
                now_s = time.monotonic()
                if not pieces and now_s - sent_s > self._ping_s:
                    # A long tool call is held back until it is whole; the client must not give up.
                    yield Ping()
                    sent_s = now_s
                elif pieces:
                    sent_s = now_s
                if splitter.over:
                    break
        _report(splitter, trace)
        forced = request.tool_choice.mode in ("any", "tool") and bool(request.tools)
        yield finished(splitter, self._usage(job), cut=cut, looped=looped, forced=forced)

    def _job(self, request: ChatRequest, ready: _Ready) -> Sequence:
        prompt, lease = ready.prompt, ready.found.lease
        traits, thinking = self._traits, None
        if request.thinking_tokens and traits.think_end:
            tags = (traits.think_start, traits.think_end)
            thinking = ThinkingLimit(*tags, prompt.in_thinking, request.thinking_tokens)
        layout, states = prompt.layout, self.caches.states
        run = SequenceSpec(
            prompt.tokens,
            lease.n_cached,
            lease.state,
            prompt.max_tokens,
            self._sampling_of(request.sampling),
            layout.boundaries(),
            ready.held.constraint,
            thinking,
        )
        guard = LoopGuard() if self._loop_guard else None
        return Sequence(run, lambda kept: states.keep(kept, layout.shared_tokens, lease), guard)

    def _sampling_of(self, asked: Sampling) -> SamplingParams:
        ours = self._sampling
        return SamplingParams(
            ours.temperature if asked.temperature is None else asked.temperature,
            ours.top_p if asked.top_p is None else asked.top_p,
            ours.top_k if asked.top_k is None else asked.top_k,
            asked.min_p,
            asked.seed,
            asked.presence_penalty,
            asked.frequency_penalty,
            asked.repetition_penalty,
            asked.logit_bias,
        )

    def _splitter(self, request: ChatRequest, ready: _Ready) -> Splitter:
        prompt = ready.prompt
        stops = request.sampling.stop_sequences
        markers = Markers(self._traits.think_start, self._traits.think_end, stops)
        return Splitter(
            markers,
            self._tool_format,
            request.tools,
            thinking=prompt.in_thinking,
            constrained=ready.held.constraint is not None,
            parallel=request.tool_choice.parallel,
            shows_thinking=request.thinking is not False,
            loose=ready.held.loose,
            loop_guard=self._loop_guard,
        )

    @staticmethod
    def _usage(job: Sequence) -> Usage:
        return Usage(len(job.run.tokens), job.run.n_cached, job.n_tokens)


def check_biases(sampling: Sampling, info: ModelInfo) -> None:
    """Refuse a bias for a token that the model lacks.

    Raises:
        BadRequest: There is one; it says which.
    """
    highest = sampling.logit_bias[-1][0] if sampling.logit_bias else 0
    if info.vocab_tokens and highest >= info.vocab_tokens:
        reason = f"the model's tokens are 0 to {info.vocab_tokens - 1:,}"
        raise BadRequest(f"logit_bias.{highest}", reason)


def _report(splitter: Splitter, trace: Trace) -> None:
    for bad in splitter.bad_calls:
        trace.bad_tool_call(bad.format, bad.error, bad.n_bytes, bad.digest)
    if splitter.broken:
        raise EngineFailed(f"the model broke off a tool call: {splitter.broken}")
