"""One request, in a straight line: the only module that joins caches, prompt, scheduler and tools.

`run` yields `Started` first and `Finished` last, or raises one `ServerError`. Closing it at any
point cancels the request. The event loop never runs the tokenizer, the template or the model.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from mlxdeck.server.cache.flights import Flights
from mlxdeck.server.cache.keys import answer_key, digests
from mlxdeck.server.cache.prefixes import Lease, PrefixCache
from mlxdeck.server.cache.responses import ResponseCache, complete_answer
from mlxdeck.server.engine import Dice, ModelInfo, Run, Tokenizer
from mlxdeck.server.messages import (
    ChatRequest,
    Event,
    Finished,
    Ping,
    Sampling,
    Started,
    StopReason,
    Usage,
)
from mlxdeck.server.observe import Trace
from mlxdeck.server.prompt import Prompt, Renderer, canonical
from mlxdeck.server.scheduler import Done, Job, Scheduler, Waiting
from mlxdeck.server.toolcalls import ToolFormat
from mlxdeck.server.toolcalls.splitter import Markers, Splitter

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A request that can be queued, and how long that took."""

    prompt: Prompt
    lease: Lease
    tokenize_s: float
    lease_s: float


class Pipeline:
    """Answers requests with a loaded model. For the event loop."""

    def __init__(
        self,
        info: ModelInfo,
        tokenizer: Tokenizer,
        scheduler: Scheduler,
        *,
        responses: ResponseCache,
        prefixes: PrefixCache,
        tool_format: ToolFormat,
        dice: Dice,
        max_output_tokens: int,
        ping_s: float,
    ) -> None:
        self.info = info
        self.responses = responses
        self.prefixes = prefixes
        self._flights = Flights()
        self._scheduler = scheduler
        self._traits = tokenizer.traits
        self._renderer = Renderer(tokenizer, tool_format, info.context_tokens, max_output_tokens)
        # The server's own settings decide an answer as much as the weights do.
        self._signature = f"{info.signature} {dice} {max_output_tokens} {tool_format.name}"
        self._dice = dice
        self._tool_format = tool_format
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
        request, removed = canonical(request)
        parts = digests(request)
        trace.accepted(request, parts, removed, self._scheduler.status.queued)
        key = answer_key(parts, request, self._signature)
        async with aclosing(self._source(key, request, trace, fresh=fresh)) as events:
            async for event in events:
                trace.saw(event)
                yield event

    def _source(
        self, key: str, request: ChatRequest, trace: Trace, *, fresh: bool
    ) -> AsyncGenerator[Event]:
        """Where the answer comes from: known, under way for somebody else, or to be made."""
        began_s = time.monotonic()
        shares = self.responses.enabled and not fresh
        answer = self.responses.get(key) if shares else None
        flight = self._flights.get(key) if shares and not answer else None
        reason = "cold" if shares else "bypassed" if fresh else "disabled"
        tier = "ram" if answer else "flight" if flight else ""
        trace.exact(key, tier=tier, reason=reason, duration_s=time.monotonic() - began_s)
        if answer:
            return answer.replay()
        if flight:
            return flight.join()
        made = self._answer(key, request, trace)
        return self._flights.start(key, made).follow() if shares else made

    async def _answer(self, key: str, request: ChatRequest, trace: Trace) -> AsyncGenerator[Event]:
        """Generate an answer, and remember it if it is whole."""
        with self._scheduler.expecting():
            ready = await self._in_pool(self._prepare, request)
        trace.prepared(len(ready.prompt.tokens), ready.lease.n_cached, ready.tokenize_s)
        trace.prefix(ready.lease.n_cached, len(ready.prompt.tokens), ready.lease_s)
        sent: list[Event] = []
        async for event in self._generate(request, ready, trace):
            sent.append(event)
            if isinstance(event, Finished) and (answer := complete_answer(sent)):
                self.responses.put(key, answer)
            yield event

    async def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt of a request has."""
        request, _ = canonical(request)
        return await self._in_pool(self._renderer.count, request)

    def close(self) -> None:
        """Stop the prompt thread."""
        self._pool.shutdown(cancel_futures=True)

    async def _in_pool(self, work: Callable[[ChatRequest], _T], request: ChatRequest) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, request)

    def _prepare(self, request: ChatRequest) -> _Ready:
        """Render, count and lease, on the prompt thread."""
        began_s = time.monotonic()
        prompt = self._renderer.render(request)
        rendered_s = time.monotonic()
        lease = self.prefixes.lease(prompt.tokens)
        return _Ready(prompt, lease, rendered_s - began_s, time.monotonic() - rendered_s)

    async def _generate(
        self, request: ChatRequest, ready: _Ready, trace: Trace
    ) -> AsyncGenerator[Event]:
        job = self._job(request.sampling, ready)
        trace.follow(job)
        splitter = self._splitter(request, ready.prompt)
        cut = False
        async with self._scheduler.submit(job) as chunks:
            yield Started(self._usage(job))
            sent_s = time.monotonic()
            async for chunk in chunks:
                if isinstance(chunk, Waiting):
                    yield Ping()
                    continue
                trace.first_token()
                if isinstance(chunk, Done):
                    cut = chunk.reason == "length"
                    pieces = list(splitter.close(complete=not cut))
                else:
                    pieces = list(splitter.feed(chunk.text))
                for piece in pieces:
                    yield piece
                now_s = time.monotonic()
                if not pieces and now_s - sent_s > self._ping_s:
                    # A long tool call is held back until it is whole; the client must not give up.
                    yield Ping()
                    sent_s = now_s
                elif pieces:
                    sent_s = now_s
                if splitter.stopped_by is not None:
                    break
        for bad in splitter.bad_calls:
            trace.bad_tool_call(bad.format, bad.error, bad.n_bytes, bad.digest)
        yield Finished(_stop_reason(splitter, cut=cut), self._usage(job), splitter.stopped_by)

    def _job(self, sampling: Sampling, ready: _Ready) -> Job:
        prompt, lease, ours = ready.prompt, ready.lease, self._dice
        dice = Dice(
            ours.temperature if sampling.temperature is None else sampling.temperature,
            ours.top_p if sampling.top_p is None else sampling.top_p,
            ours.top_k if sampling.top_k is None else sampling.top_k,
        )
        run = Run(prompt.tokens, lease.n_cached, lease.state, prompt.max_tokens, dice)
        return Job(run, self.prefixes.keep)

    def _splitter(self, request: ChatRequest, prompt: Prompt) -> Splitter:
        stops = request.sampling.stop_sequences
        markers = Markers(self._traits.think_start, self._traits.think_end, stops)
        splitter = Splitter(markers, self._tool_format, request.tools, thinking=prompt.in_thinking)
        # A begun answer may have opened a call; what it said itself is not said again.
        deque(splitter.feed(prompt.begun), maxlen=0)
        return splitter

    @staticmethod
    def _usage(job: Job) -> Usage:
        return Usage(len(job.run.tokens), job.run.n_cached, job.n_tokens)


def _stop_reason(splitter: Splitter, *, cut: bool) -> StopReason:
    if splitter.stopped_by is not None:
        return "stop_sequence"
    if cut:
        return "max_tokens"
    return "tool_use" if splitter.n_calls else "end_turn"
