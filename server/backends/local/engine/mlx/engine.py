"""Runs a model with mlx-lm's BatchGenerator: continuous batching, chunked prefill, KV reuse.

Owns every MLX array. All of it runs on the engine thread, but for `MlxTokenizer`, which holds no
arrays. A cached state comes as a lease on blocks, which is copied into the batch it runs in. What a
sequence leaves behind is a view of its batch, of which the caches copy what is new.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Memory,
    ModelInfo,
    Prefilled,
    Progress,
    Read,
    Reads,
    Room,
    Sampled,
    SequenceSpec,
    State,
    Step,
)
from mlxdeck.server.backends.local.engine.hardware.device import device
from mlxdeck.server.backends.local.engine.hardware.heap import give_back
from mlxdeck.server.backends.local.engine.hardware.memory_use import memory_limit_bytes, memory_use
from mlxdeck.server.backends.local.engine.mlx.batches import Batches, PromptProgress, PromptRow
from mlxdeck.server.backends.local.engine.mlx.draft_model import (
    DraftModel,
    drafter,
    load_draft_model,
)
from mlxdeck.server.backends.local.engine.mlx.drafting import (
    Speculating,
    Speculation,
)
from mlxdeck.server.backends.local.engine.mlx.grammars import MlxGrammars, Processor
from mlxdeck.server.backends.local.engine.mlx.kv_states import (
    MlxStates,
    always_cuttable,
    empty_lease,
    make_room,
)
from mlxdeck.server.backends.local.engine.mlx.layer_costs import known_cost, n_logits
from mlxdeck.server.backends.local.engine.mlx.leased_kv import ROOM_TOKENS
from mlxdeck.server.backends.local.engine.mlx.replay import replay
from mlxdeck.server.backends.local.engine.mlx.sampling import (
    is_finite,
    penalties,
    sampler,
)
from mlxdeck.server.backends.local.engine.mlx.thinking import ThinkingBudget
from mlxdeck.server.backends.local.engine.mlx.tokenizer import MlxTokenizer, read_template
from mlxdeck.server.backends.local.engine.models.loader import (
    hold,
    load_model,
    load_weights_again,
    resolve,
)
from mlxdeck.server.backends.local.engine.models.model_folder import fit_to_load
from mlxdeck.server.backends.local.engine.models.model_info import (
    context_line,
    model_info,
    signature,
)
from mlxdeck.server.backends.local.engine.speculation.payoff import Acceptance, PassCosts, Payoff
from mlxdeck.server.errors import EngineFailed, one_line

log = logging.getLogger(__name__)

# The KV cache may take this share of the memory that is free once the model is loaded.
FREE_MEMORY_SHARE = 0.5
# What a further token costs of a pass over one, until it is measured: on Metal, reading the weights
# takes most of the time; a processor is busy with each token.
TOKEN_SHARES = {"metal": 0.02, "cpu": 0.2}
# Boundaries nearer to one another than this are not worth a step of their own.
MIN_SEGMENT_TOKENS = 64


class MlxEngine:
    """An `Engine` over one mlx-lm model."""

    tokenizer: MlxTokenizer
    grammars: MlxGrammars
    states = MlxStates()
    ends_late = True

    def __init__(
        self,
        model: str,
        models_dir: Path,
        *,
        prefill_chunk_tokens: int,
        context_tokens: int = 0,
        max_kv_tokens: int = 0,
        chat_template: str = "",
        prompt_lookup: bool = True,
        forced_spans: bool = True,
        draft_model: str = "",
    ) -> None:
        """`max_kv_tokens` bounds how far back the model looks; 0 is as far as it can.

        `chat_template` is a file to take instead of the model's own template; empty for none.
        `draft_model` names a small model that guesses what this one writes; empty for none.
        """
        self._chat_template = chat_template
        self._max_kv_tokens = max_kv_tokens or None
        self._name = model
        self._models_dir = models_dir
        self._prefill_chunk_tokens = prefill_chunk_tokens
        self._context_tokens = context_tokens
        self._detokenizers: dict[int, Any] = {}
        self._holding: dict[int, Processor] = {}
        share = TOKEN_SHARES["metal" if device().kind == "metal" else "cpu"]
        self._prompt_lookup = prompt_lookup
        self._draft_name = draft_model
        self._draft_model: DraftModel | None = None
        self._speculation: Speculation | None = None
        if prompt_lookup or forced_spans or draft_model:
            self._speculation = Speculation(Payoff(PassCosts(share)), forces=forced_spans)

    def load(self, progress: Progress) -> ModelInfo:
        """Fetch, convert and load the model."""
        resolved = resolve(self._name, self._models_dir, progress)
        progress(f"loading {resolved.name}")
        with fit_to_load(resolved.path) as folder:
            self._let_go = hold(resolved.path, self)
            for note in folder.notes:
                progress(f"warning: {note}")
            self._model, wrapper = load_model(resolved.name, folder.path)
            info = self._info = model_info(
                resolved.name, resolved.path, folder, self._context_tokens
            )
        self.tokenizer = MlxTokenizer(wrapper, read_template(self._chat_template))
        self.grammars = MlxGrammars(wrapper, n_logits(self._model))
        self.grammars.prepare()
        if self._draft_name:
            vocabulary = wrapper._tokenizer.get_vocab()
            self._draft_model = load_draft_model(
                self._draft_name, self._models_dir, progress, vocabulary, self._model
            )
        cost = known_cost(self._model, self._max_kv_tokens, self._prefill_chunk_tokens)
        if cost and self._draft_model:
            cost = cost.beside(self._draft_model.cost())
        if cost:
            info = replace(info, kv_cost=cost, kv_bytes=cost.bytes_of(info.context_tokens))
        progress(context_line(info))
        self._is_cuttable = always_cuttable(make_prompt_cache(self._model, self._max_kv_tokens))
        self._stop_tokens = [(token,) for token in sorted(wrapper.eos_token_ids)]
        if self._speculation:
            self._speculation.stops = frozenset(wrapper.eos_token_ids)
        self.reset()
        self._model_bytes = int(mx.get_active_memory())
        return replace(info, vocab_tokens=len(wrapper._tokenizer))

    def spare_bytes(self) -> int:
        """A share of the remaining memory that models may use."""
        return int(memory_use().free_bytes * FREE_MEMORY_SHARE)

    def insert(self, run: SequenceSpec) -> int:
        """Queue a sequence; the cached part of its prompt comes from `run.state`."""
        tokens = list(run.tokens)
        # Before the batch knows of it: from there on nothing may fail.
        detokenizer = self.tokenizer.detokenizer(keeps_blank=run.keeps_blank)
        holding = self.grammars.processor(run.constraint) if run.constraint else None
        draw, processors = sampler(run.sampling), self._processors(run, holding)
        if run.n_written:
            replay(tokens[-run.n_written :], draw, processors, detokenizer)
        prompt = PromptRow(
            self._segments(tokens, run),
            run.max_tokens,
            self._lease(run),
            tokens[: run.n_cached],
            draw,
            processors,
        )
        try:
            uid = self._batch.insert(prompt)
        except ValueError as error:
            raise EngineFailed(f"the model can't take this prompt: {error}") from error
        self._detokenizers[uid] = detokenizer
        if speculation := self._speculation:
            speculation.sequences[uid] = Speculating(
                drafter(tokens, self._draft_model, prompt_lookup=self._prompt_lookup),
                Acceptance(speculation.payoff.acceptance),
            )
        if holding:
            self._holding[uid] = holding
        return uid

    def _lease(self, run: SequenceSpec) -> State:
        """What is known of a prompt, with room for the rest of it."""
        if not run.n_cached:
            return empty_lease(make_prompt_cache(self._model, self._max_kv_tokens))
        make_room(run.state, len(run.tokens) + min(run.max_tokens, ROOM_TOKENS))
        return run.state

    def _processors(self, run: SequenceSpec, holding: Processor | None) -> tuple[Any, ...]:
        wrapper = self.tokenizer.wrapper
        found: list[Any] = []
        # Masks come after penalties, so that only tokens allowed by the mask are sampled.
        if changed := penalties(run.sampling):
            found.append(changed)
        if holding:
            found.append(holding)
        if run.thinking:
            end_ids = wrapper.encode(run.thinking.end, add_special_tokens=False)
            budget = ThinkingBudget(run.thinking, end_ids, wrapper.decode)
            if holding:
                # A constrained answer contains no thinking, whatever its text is.
                budget.paused = lambda: holding.holds
            found.append(budget)
        return tuple(found)

    def _segments(self, tokens: list[int], run: SequenceSpec) -> list[list[int]]:
        """Cut a prompt where its state has to be kept: nowhere, if it can be cut back later."""
        cuts = [run.n_cached]
        if not self._is_cuttable:
            for boundary in run.boundaries:
                if boundary - cuts[-1] >= MIN_SEGMENT_TOKENS and boundary < len(tokens):
                    cuts.append(boundary)
        return [tokens[a:b] for a, b in itertools.pairwise([*cuts, len(tokens)])]

    def step(self, reads: Reads = None) -> list[Step]:
        """Advance every sequence; see `Engine.step`."""
        if reads is None:
            reads = [Read((uid,), self._prefill_chunk_tokens) for uid in self._batch.prompts]
        try:
            progress, tokens = self._batch.step(reads)
            steps: list[Step] = [_prefilled(each) for each in progress]
            # One that has ended may have had more tokens in this step.
            steps.extend(self._sampled(each) for each in tokens if each.uid in self._detokenizers)
        # Any exception of a model's code has the same meaning here: the batch is lost.
        except Exception as error:
            raise EngineFailed(f"the model failed: {type(error).__name__}: {error}") from error
        return steps

    def _sampled(self, response: Any) -> Sampled:
        holding = self._holding.get(response.uid)
        if not is_finite(response.logprobs, response.token):
            return self._ended(response, "failed", "its logits are no numbers")
        if holding and holding.broken:
            return self._ended(response, "broken", holding.broken)
        detokenizer = self._detokenizers[response.uid]
        if response.finish_reason != "stop":
            detokenizer.add_token(response.token)
        n_drafted, n_accepted, n_forced = self._speculated(response.uid)
        if response.finish_reason is None:
            held = holding is not None and holding.holds
            return Sampled(
                response.uid,
                detokenizer.last_segment,
                token=response.token,
                held=held,
                n_drafted=n_drafted,
                n_accepted=n_accepted,
                n_forced=n_forced,
            )
        detokenizer.finalize()
        self._forget(response.uid)
        return Sampled(
            response.uid,
            detokenizer.last_segment,
            response.finish_reason,
            kept(response.all_tokens, response.prompt_cache),
            n_drafted=n_drafted,
            n_accepted=n_accepted,
            n_forced=n_forced,
        )

    def _speculated(self, uid: int) -> tuple[int, int, int]:
        """How many tokens were drafted for it, accepted, and forced, since the last time."""
        found = self._speculation.sequences.get(uid) if self._speculation else None
        return found.take() if found else (0, 0, 0)

    def _ended(self, response: Any, how: Literal["failed", "broken"], why: str) -> Sampled:
        """End a sequence early; its state may be as bad as its answer, and is not kept."""
        if response.finish_reason is None:
            self._batch.remove(response.uid)
        self._forget(response.uid)
        return Sampled(response.uid, "", how, why=why)

    def remove(self, uid: int) -> KVState | None:
        """Drop a sequence and return its state, complete up to the last computed token."""
        self._forget(uid)
        try:
            found = self._batch.extract(uid)
            self._batch.remove(uid)
            return kept(*found) if found is not None else None
        # As in a step: the batch can't be relied on any more.
        except (RuntimeError, ValueError, IndexError) as error:
            raise EngineFailed(f"the model failed: {type(error).__name__}: {error}") from error

    def _forget(self, uid: int) -> None:
        for running in self._of_sequences:
            running.pop(uid, None)

    @property
    def _of_sequences(self) -> list[dict[int, Any]]:
        """What is kept for each sequence, by its uid."""
        speculating = [self._speculation.sequences] if self._speculation else []
        return [self._detokenizers, self._holding, *speculating]

    def reset(self) -> None:
        """Build a new generator; the old one's sequences are lost, and its memory is freed."""
        for running in self._of_sequences:
            running.clear()
        if self._draft_model:
            self._draft_model.forget()
        self._batch = Batches(
            self._model,
            stop_tokens=self._stop_tokens,
            max_kv_tokens=self._max_kv_tokens,
            speculation=self._speculation,
        )
        mx.clear_cache()

    def memory(self) -> Memory:
        """MLX's own figures; they leave out what Python and the tokenizer use."""
        return Memory(mx.get_active_memory(), mx.get_peak_memory(), memory_limit_bytes())

    def room(self) -> Room:
        """Of the memory that the device may use; see `MemoryUse`."""
        room = memory_use().room(self._model_bytes)
        # While the model is unloaded, there is no batch.
        batch = self.__dict__.get("_batch")
        return replace(room, groups=tuple(batch.row_groups) if batch else ())

    def unload(self) -> None:
        """Free generator and model on the thread that made them."""
        for running in self._of_sequences:
            running.clear()
        if batch := self.__dict__.pop("_batch", None):
            batch.close()
        del batch
        self.__dict__.pop("_model", None)
        if self._draft_model:
            self._draft_model.unload()
        self._let_go()
        mx.clear_cache()
        give_back()

    def reload(self) -> Generator[None]:
        """Load the weights alone, from the folder that they were in at the start."""
        name, path = self._info.name, Path(self._info.path)
        self._let_go = hold(path, self)
        with fit_to_load(path) as folder:
            if signature(folder.path) != self._info.signature:
                raise EngineFailed(
                    f"the files of {name} have changed since the server started; start it again"
                )
            try:
                self._model = yield from load_weights_again(folder.path)
                if self._draft_model:
                    yield from self._draft_model.reload()
            # As at the start.
            except Exception as error:
                raise EngineFailed(f"cannot load {name} again: {one_line(error)}") from error
        self.reset()

    def close(self) -> None:
        """The same, for good."""
        if hasattr(self, "_let_go"):
            self.unload()


def _prefilled(read: PromptProgress) -> Prefilled:
    snapshot = kept(*read.kept) if read.kept is not None else None
    return Prefilled(read.uid, read.done_tokens, read.total_tokens, snapshot)


def kept(tokens: Sequence[int], state: State) -> KVState:
    """A row of a batch, as a view of it: whoever keeps it copies what is new, and drops it."""
    return KVState(list(tokens), state)
