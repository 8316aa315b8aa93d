"""A model on this machine behind the seam: prompt, KV states, scheduler, tool calls, engine.

`answer` is one request, from its canonical form to its last event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

from mlxdeck.server.backend_names import LOCAL
from mlxdeck.server.backends.base import (
    Announce,
    BackendInfo,
    BackendStatus,
    Health,
    OneModel,
    Route,
)
from mlxdeck.server.backends.local.answer_splitter import answer_splitter, begin, read
from mlxdeck.server.backends.local.engine.api import (
    Engine,
    ModelInfo,
    SamplingParams,
    SequenceSpec,
    TemplateTraits,
    ThinkingLimit,
)
from mlxdeck.server.backends.local.idle import IdleUnload
from mlxdeck.server.backends.local.kv.prompt_digests import prompt_digests
from mlxdeck.server.backends.local.kv.system_prompts import parts_key
from mlxdeck.server.backends.local.kv_tiers import KVTiers
from mlxdeck.server.backends.local.model_report import model_report
from mlxdeck.server.backends.local.preparation import Preparation, Ready
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.prompt.template_trial import TemplateTrial, try_template
from mlxdeck.server.backends.local.prompt_thread import PromptThread
from mlxdeck.server.backends.local.resources import Resources
from mlxdeck.server.backends.local.sampling import check_biases, defaults, filled
from mlxdeck.server.backends.local.scheduler.loop_guard import LoopGuard
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.backends.local.scheduler.sequence import Done, Piece, Waiting
from mlxdeck.server.backends.local.scheduler.sequence import Sequence as Job
from mlxdeck.server.backends.local.silence import Silence
from mlxdeck.server.backends.local.toolcalls.finish import ending
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.cache.cache_keys import digest
from mlxdeck.server.canonicalize import SCHEMA_ORDER
from mlxdeck.server.chat import ChatRequest, Ping, Started, ThinkingDelta, Usage
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import UnreadablePart
from mlxdeck.server.request_facts import Digests, FirstTokenDrawn, ModelText, Prepared, StreamItem
from mlxdeck.server.turns import LoopTurns

DRAWING = (
    *("canonical_off", "inline_control_tokens", "kv_8bit", "loop_guard"),
    *("max_kv_tokens", "max_output_tokens"),
)
"""Settings that change answers, except for the defaults of sampling."""


class LocalBackend(OneModel):
    """The `Backend` of a model that runs here."""

    info: BackendInfo
    kv: KVTiers
    _preparation: Preparation
    _model: ModelInfo
    _sampling: SamplingParams
    _tool_format: ToolFormat
    _traits: TemplateTraits
    _template: TemplateTrial

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        resources: Resources | None = None,
        *,
        name: str = "",
        weight: float = 1.0,
    ) -> None:
        """`weight` is that of its share of the memory for states, where `resources` are shared.

        `name` is told in front of the model's, so that two models can be told apart.
        """
        self._settings, self._engine = settings, engine
        self._name, self._weight, self._is_ready = name, weight, False
        self._resources = resources or Resources(settings.prefix_cache_bytes)
        self.scheduler = Scheduler(
            engine,
            self._resources.thread,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            prefill_chunk_tokens=settings.prefill_chunk_tokens,
            step_budget_tokens=settings.step_budget_tokens,
            ping_s=settings.ping_s,
            stall_s=settings.stall_s,
        )
        stall_s, give_up = settings.stall_s, self.scheduler.give_up
        self._prompts = PromptThread(stall_s, give_up)
        self._long_prompts = PromptThread(stall_s, give_up, "long-prompt")

    async def start(self, announce: Announce, disk: CacheDisk | None) -> None:
        """Load the model, open the states of earlier runs, and try the chat template.

        Raises:
            EngineFailed: It can't be loaded.
            SettingsError: The tool format is unknown.
        """
        spare_bytes = await self._load(announce)
        self._prompts.start()
        self._long_prompts.start()
        model, told, tokenizer = self._model, self._settings, self._engine.tokenizer
        self._traits = tokenizer.traits
        self._sampling = defaults(model, told.temperature, told.top_p, told.top_k)
        self._tool_format = choose_format(told.tool_format, self._traits)
        # Not on the loop, which these would hold up.
        self.kv = await asyncio.to_thread(self._open_states, disk)
        self._resources.divide(self.kv.states.ram, self._weight, spare_bytes)
        ram = self.kv.states.ram
        self.scheduler.relieve_by(ram.clear, ram.give_way)
        ram.free_bytes = self.scheduler.free_bytes
        trial = self._prompts.submit(try_template, tokenizer, self._tool_format)
        self._template = await asyncio.wrap_future(trial)
        # What is learned of the vocabulary on first use takes a moment that nobody is to wait.
        await asyncio.wrap_future(self._prompts.submit(tokenizer.least_tokens, ""))
        renderer = Renderer(
            tokenizer,
            self._tool_format,
            model.context_tokens,
            told.max_output_tokens,
            ordered=SCHEMA_ORDER not in told.canonical_off.split(","),
            known=self._template.regroupings,
            inline=told.inline_control_tokens,
        )
        self._renderer = renderer
        self._preparation = Preparation(
            self._prompts,
            self._long_prompts,
            renderer,
            self._traits,
            self._tool_format,
            self._engine.grammars,
            self.kv.states,
            self.kv.systems,
            prompt_digests(told.home, told.telemetry),
        )
        signature = self._signature() + digest(self._traits.source)
        served = told.served_model_name or model.name
        self.info = replace(model_report(model, self._template, signature), name=served)
        unique = f"{self._name}/{served}" if self._name else served
        self._idle = IdleUnload(unique, told.unload_after_s, self.scheduler, self.kv)
        self._is_ready = True

    async def _load(self, announce: Announce) -> int:
        """Load the model; return the bytes that are left for states in RAM."""
        found: list[tuple[ModelInfo, int]] = []

        def loaded(model: ModelInfo) -> None:
            # On the engine thread: how much memory is free is known only now.
            found.append((model, self._engine.spare_bytes()))

        self.scheduler.start(announce, loaded)
        await self.scheduler.ready
        self._model, spare_bytes = found[0]
        return spare_bytes

    def _open_states(self, disk: CacheDisk | None) -> KVTiers:
        told, model = self._settings, self._model
        # A state of another device or window looks alike, and isn't.
        signature = f"{model.signature} {model.device} {told.max_kv_tokens}"
        run = self.scheduler.run_before_step
        tiers = partial(KVTiers, policy=told.cache_policy, eight_bits=told.kv_8bit)
        return tiers(self._engine.states, run, disk, signature=signature)

    def _signature(self) -> str:
        """The source of an answer beside the request: the model and its settings."""
        told = {name: getattr(self._settings, name) for name in DRAWING}
        model, name = self._model, self._tool_format.name
        return f"{model.signature} {model.context_tokens} {self._sampling} {name} {told}"

    async def stop(self) -> None:
        """End what still runs."""
        if self._is_ready:
            self._idle.stop()
        self._prompts.shutdown()
        self._long_prompts.shutdown()
        await self.scheduler.stop()

    async def close(self) -> None:
        """Write the remaining states. The engine has ended."""
        if self._is_ready:
            self.kv.flush()

    @property
    def must_not_unload(self) -> bool:
        """Whether Python must not be taken apart under what still runs."""
        # In the middle of a download, or of a library's code: that can't be ended from outside.
        # Also not under a thread that Python takes for ended, while the library's own memory of
        # it is being freed: that aborts the process.
        makes_prompts = self._prompts.busy or self._long_prompts.busy
        return self.scheduler.alive or makes_prompts or self._engine.ends_late

    @property
    def _health(self) -> Health:
        if reason := self._prompts.watch.stalled or self._long_prompts.watch.stalled:
            return Health("unhealthy", reason)
        return self.scheduler.health

    @property
    def status(self) -> BackendStatus:
        """A snapshot."""
        memory, n_lost = self.scheduler.memory, self.scheduler.n_lost_states
        load = replace(
            self.scheduler.status,
            memory_active_bytes=memory.active_bytes,
            memory_peak_bytes=memory.peak_bytes,
            memory_limit_bytes=memory.limit_bytes,
        )
        if self._is_ready:
            n_lost += self.kv.states.ram.stats.evictions["failed"]
            load = replace(self.kv.counted(load), models=(self._idle.model,))
        details = {"engine_rebuilds": self.scheduler.n_rebuilds, "lost_states": n_lost}
        return BackendStatus(self._health, load, details)

    @property
    def lost(self) -> asyncio.Future[str]:
        """Done once the engine hangs or can't be rebuilt."""
        return self.scheduler.lost

    @property
    def clock_formats(self) -> Sequence[str]:
        """The chat template's output of the time."""
        return self._traits.clock_formats

    def routes(self, chat: ChatRequest) -> Sequence[Route]:
        """Itself, whatever the client calls the model."""
        return (Route(LOCAL, self, chat.model),)

    def check(self, chat: ChatRequest) -> None:
        """Refuse a bias for a token that the model lacks, pictures, and texts that can't fit."""
        if chat.unsupported:
            raise UnreadablePart(*chat.unsupported)
        check_biases(chat.sampling, self._model.vocab_tokens)
        self._renderer.check_fits(chat)

    def regroupings(self, chat: ChatRequest) -> tuple[str, ...]:
        """Those that the template is known to need, and that change this conversation."""
        return self._renderer.foreseen(chat)

    def expecting(self) -> AbstractContextManager[None]:
        """An idle engine then waits a moment, to read several prompts together."""
        return self.scheduler.expecting()

    async def count(self, chat: ChatRequest) -> int:
        """How many tokens the prompt has."""
        return await self._preparation.count(chat)

    async def answer(self, chat: ChatRequest, parts: Digests) -> AsyncGenerator[StreamItem]:
        """Render, look up, queue, and split the model's text into events."""
        with self.expecting():
            ready = await self._preparation.prepare(chat, parts)
        try:
            yield ready.looked_up()
            job = self._job(chat, ready)
            lease, plan = ready.found.lease, ready.plan
            yield Prepared(
                job.work,
                len(ready.prompt.tokens),
                lease.n_cached,
                ready.tokenize_s,
                plan.refused,
                plan.loose,
            )
            splitter = self._splitter(chat, ready)
            cut, looped, n_thought, turns = False, False, 0, LoopTurns()
            async with self.scheduler.submit(job) as chunks:
                yield Started(_usage(job))
                for piece in await begin(splitter, ready.prompt.begun):
                    yield piece
                silence, is_first = Silence(self._settings.ping_s), True
                async for chunk in chunks:
                    await turns.take()
                    if isinstance(chunk, Waiting):
                        yield Ping()
                        continue
                    for fact in self._facts(job, chunk, is_first=is_first):
                        yield fact
                    is_first = False
                    if isinstance(chunk, Done):
                        cut, looped = chunk.reason != "stop", chunk.reason == "loop"
                    pieces = await read(splitter, chunk)
                    n_thought += any(isinstance(piece, ThinkingDelta) for piece in pieces)
                    for piece in pieces:
                        yield piece
                        await turns.take()
                    if silence.is_long(said=bool(pieces)):
                        yield Ping()
                    if splitter.over:
                        break
            forced = chat.tool_choice.mode in ("any", "tool") and bool(chat.tools)
            n_written = chunk.n_tokens if isinstance(chunk, Piece) else job.work.n_tokens
            usage = replace(_usage(job), output_tokens=n_written, reasoning_tokens=n_thought)
            for last in ending(splitter, usage, cut=cut, looped=looped, forced=forced):
                yield last
        finally:
            ready.found.lease.release()

    def _facts(
        self, job: Job, chunk: Piece | Done, *, is_first: bool
    ) -> Iterator[FirstTokenDrawn | ModelText]:
        if is_first:
            self.kv.states.timed(job.work.times.prefill_s, len(job.run.tokens) - job.run.n_cached)
            yield FirstTokenDrawn()
        if self._settings.log_level == "trace" and isinstance(chunk, Piece):
            yield ModelText(chunk.text)

    def _job(self, chat: ChatRequest, ready: Ready) -> Job:
        prompt, lease = ready.prompt, ready.found.lease
        traits, thinking = self._traits, None
        if chat.thinking_tokens and traits.think_end:
            tags = (traits.think_start, traits.think_end)
            thinking = ThinkingLimit(*tags, prompt.in_thinking, chat.thinking_tokens)
        layout, states = prompt.layout, self.kv.states
        run = SequenceSpec(
            prompt.tokens,
            lease.n_cached,
            lease.state,
            prompt.max_tokens,
            filled(chat.sampling, self._sampling),
            ready.boundaries,
            ready.plan.constraint,
            thinking,
            keeps_blank=chat.raw is not None,
        )
        return Job(
            run,
            lambda kept: states.keep(kept, layout.shared_tokens, lease),
            LoopGuard() if self._settings.loop_guard else None,
            session=chat.session_id,
            lease=states.again,
            spoil=lambda: states.spoil(prompt.tokens[: lease.n_cached]),
        )

    def _splitter(self, chat: ChatRequest, ready: Ready) -> Splitter:
        about = (chat, ready.prompt, ready.plan, self._traits, self._tool_format)
        return answer_splitter(*about, loop_guard=self._settings.loop_guard)

    async def shared_tokens(self, chat: ChatRequest) -> list[int]:
        """The tokens of a request's system prompt and tools."""
        return await self._preparation.shared_tokens(chat)

    async def known_tokens(self, system: str, tools: str) -> list[int] | None:
        """The same, as an earlier run remembered them."""
        systems = self.kv.systems
        return await systems.tokens(parts_key(system, tools)) if systems else None

    async def prefill(self, tokens: list[int]) -> None:
        """Compute the state of a system prompt, and keep it; cancelled, what there is of it."""
        states, n = self.kv.states, len(tokens)
        await states.recall(tokens)
        # One token more than wanted has to be run, and one is drawn: the state is cut back to n.
        run_tokens = [*tokens, tokens[0]]
        lease = states.ram.lease(run_tokens)
        try:
            if lease.n_cached < n:
                run = SequenceSpec(
                    run_tokens, lease.n_cached, lease.state, 1, SamplingParams(), (n,)
                )
                job = Job(run, lambda kept: states.keep(kept, n, lease, at_most_tokens=n))
                async with self.scheduler.submit(job) as chunks:
                    async for _ in chunks:
                        pass
        finally:
            lease.release()

    def cache_report(self) -> dict[str, Any]:
        """The tiers of its KV states."""
        return self.kv.report() if self._is_ready else {}

    async def clear(self, tier: str) -> int:
        """Empty one of them."""
        return await self.kv.clear(tier)

    def tick(self) -> None:
        """Write states that are due; unload a model that nobody asks."""
        self.kv.tick(is_idle=not self.scheduler.status.active)
        self._idle.tick()


def _usage(job: Job) -> Usage:
    return Usage(len(job.run.tokens), job.run.n_cached, job.work.n_tokens)
