"""Continuous batching with mlx-lm's batch classes, where the caller says what each step reads.

mlx-lm's `BatchGenerator` reads a chunk of every prompt in each step, padded to the longest. Here a
long prompt is a batch of its own, so that nothing is padded or moved while it is read. Short ones
are read in one pass. Nothing is computed twice. Engine thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx_lm.generate import (
    GenerationBatch,
    PromptProcessingBatch,
    StopSequences,
    generation_stream,
)
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import greedy_sampler
from mlx_lm.utils import maybe_set_recommended_wired_limit

from mlxdeck.server.backends.local.engine.api import Read, State
from mlxdeck.server.backends.local.engine.mlx.decode_batch import begin
from mlxdeck.server.backends.local.engine.mlx.drafting import Speculation
from mlxdeck.server.backends.local.engine.mlx.token_reader import expect
from mlxdeck.server.backends.local.engine.row_groups import RowGroup, nearest_group, passes

CLEAR_EVERY_STEPS = 512
"""How often buffers that decoding leaves behind are given back."""


@dataclass(slots=True)
class PromptRow:
    """A prompt that is being read."""

    segments: list[list[int]]
    """What is left of it; a state is due behind each of them but the last. None is empty."""
    max_tokens: int
    cache: State
    tokens: list[int]
    """Those that the cache holds."""
    sampler: Callable[[mx.array], mx.array]
    processors: tuple[Any, ...]
    uid: int = -1
    batch: PromptProcessingBatch | None = None
    """Its own; None as long as nothing of it is read."""
    n_cached: int = field(init=False)

    def __post_init__(self) -> None:
        self.n_cached = len(self.tokens)

    @property
    def left_tokens(self) -> int:
        """Tokens that are still to be read, the last one included."""
        return sum(map(len, self.segments))

    def take(self, n_tokens: int) -> list[int]:
        """The next tokens, up to the end of a segment, but never the prompt's last one."""
        segment = self.segments[0]
        is_last = len(self.segments) == 1
        taken = segment[: min(n_tokens, len(segment) - is_last)]
        self.segments[0] = segment[len(taken) :]
        return taken

    def passed(self) -> bool:
        """Whether the end of a segment has just been reached; the next one then begins."""
        if self.segments[0]:
            return False
        self.segments.pop(0)
        return True


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """What a pass has read of one prompt."""

    uid: int
    done_tokens: int
    total_tokens: int
    kept: tuple[list[int], State] | None = None
    """Tokens and state at the end of a segment."""


class Batches:
    """The prompts that are read, and the batches of the sequences that are written."""

    def __init__(
        self,
        model: Any,
        *,
        stop_tokens: Sequence[Sequence[int]],
        max_kv_tokens: int | None,
        speculation: Speculation | None = None,
    ) -> None:
        self._model = model
        self._speculation = speculation
        self._max_kv_tokens = max_kv_tokens
        self._stops = StopSequences(stop_tokens or None)
        self._next_uid = 0
        self._n_steps = 0
        self.prompts: dict[int, PromptRow] = {}
        self.groups: list[GenerationBatch] = []
        """Sequences that are written, those of about the same length together."""
        self._old_wired_limit = maybe_set_recommended_wired_limit()

    def insert(self, prompt: PromptRow) -> int:
        """Take on a prompt, and return its uid.

        Raises:
            ValueError: It is empty, or nothing may be drawn.
        """
        prompt.segments = [each for each in prompt.segments if each]
        if not prompt.segments or prompt.max_tokens < 1:
            raise ValueError("a prompt has a token, and an answer too")
        if prompt.cache is None:
            prompt.cache = make_prompt_cache(self._model, self._max_kv_tokens)
        prompt.uid, self._next_uid = self._next_uid, self._next_uid + 1
        self.prompts[prompt.uid] = prompt
        return prompt.uid

    def step(
        self, reads: Sequence[Read]
    ) -> tuple[list[PromptProgress], list[GenerationBatch.Response]]:
        """Draw a token of each sequence that is written, then read as told.

        A sequence whose prompt was read in this step has its first token in the next one.
        """
        with mx.stream(generation_stream):
            if self._speculation and (reads or len(self.groups) > 1):
                self._speculation.n_others += 1
            for group in self.groups:
                # A batch of another class begins some of its steps with something else.
                if type(group) is GenerationBatch:
                    expect(group._next_tokens, group.logits_processors)
            drawn = [each for group in self.groups for each in group.next()]
            self.groups = [each for each in self.groups if each.uids]
            self._n_steps += bool(drawn)
            if drawn and self._n_steps % CLEAR_EVERY_STEPS == 0:
                mx.clear_cache()
            return [each for read in reads for each in self._read(read)], drawn

    def _read(self, read: Read) -> list[PromptProgress]:
        prompts = [self.prompts[uid] for uid in read.uids if uid in self.prompts]
        # Only what has just come is read together: what is begun would have to be moved.
        together = [[each] for each in prompts if each.batch is not None]
        fresh = [each for each in prompts if each.batch is None]
        for is_known in (True, False):
            found = [each for each in fresh if (each.left_tokens == 1) is is_known]
            rows = passes([each.n_cached for each in found])
            together += [[found[n] for n in row] for row in rows]
        return [each for one in together for each in self._pass(one, read.n_tokens)]

    def _pass(self, prompts: list[PromptRow], n_tokens: int) -> list[PromptProgress]:
        batch = prompts[0].batch or self._batch(prompts)
        batch.prompt([each.take(n_tokens) for each in prompts])
        told, ended = [], []
        for place, each in enumerate(prompts):
            kept = None
            left_tokens = each.left_tokens
            if each.passed():
                kept = list(batch.tokens[place]), batch.extract_cache(place)
            if left_tokens == 1:
                left_tokens = 0
                ended.append(place)
            total = len(batch.tokens[place]) + each.left_tokens
            told.append(PromptProgress(each.uid, total - left_tokens, total, kept))
        self._share_out(batch, prompts, ended)
        return told

    def _batch(self, prompts: list[PromptRow]) -> PromptProcessingBatch:
        return PromptProcessingBatch(
            self._model,
            [each.uid for each in prompts],
            [each.cache for each in prompts],
            [each.tokens for each in prompts],
            # Larger than any pass: who reads how much is decided by the caller.
            max(each.left_tokens for each in prompts),
            [each.sampler for each in prompts],
            greedy_sampler,
            [each.processors for each in prompts],
            [self._stops] * len(prompts),
            [each.max_tokens for each in prompts],
        )

    def _share_out(
        self, batch: PromptProcessingBatch, prompts: list[PromptRow], ended: list[int]
    ) -> None:
        """Begin to write what has been read, and give each of the others a batch of its own."""
        last = [prompts[place].segments[0] for place in ended]
        others = [each for place, each in enumerate(prompts) if place not in ended]
        if ended:
            done = batch.split(ended) if others else batch
            self._join(begin(done, last, self._speculation))
        for place, each in enumerate(others):
            each.batch = batch if place == len(others) - 1 else batch.split([0])
            each.cache = None
        for place in ended:
            del self.prompts[prompts[place].uid]

    def _join(self, batch: GenerationBatch) -> None:
        """Write it together with others, if it is about as long as they are."""
        nearest = nearest_group(_rows(batch), self.row_groups)
        if nearest is None:
            self.groups.append(batch)
        else:
            self.groups[nearest].extend(batch)

    @property
    def row_groups(self) -> list[RowGroup]:
        """The batches that are written, as far as memory is concerned."""
        return [_rows(each) for each in self.groups]

    def _written(self, uid: int) -> tuple[GenerationBatch, int] | None:
        """The batch in which a sequence is written, and its place there."""
        for group in self.groups:
            if uid in group.uids:
                return group, group.uids.index(uid)
        return None

    def extract(self, uid: int) -> tuple[list[int], State] | None:
        """The tokens that were computed of a sequence, and their state; None if there are none."""
        prompt = self.prompts.get(uid)
        found: tuple[Any, int] | None
        if prompt is not None:
            found = (prompt.batch, 0) if prompt.batch is not None else None
        else:
            found = self._written(uid)
        if found is None:
            return None
        batch, place = found
        return batch.tokens[place], batch.extract_cache(place)

    def remove(self, uid: int) -> None:
        """Drop a sequence at any stage, also one that is not there."""
        self.prompts.pop(uid, None)
        if (found := self._written(uid)) is not None:
            group, place = found
            group.filter([n for n in range(len(group.uids)) if n != place])
            self.groups = [each for each in self.groups if each.uids]

    def close(self) -> None:
        """Set back what was set for the whole process."""
        if self._old_wired_limit is not None:
            mx.synchronize(generation_stream)
            mx.set_wired_limit(self._old_wired_limit)
            self._old_wired_limit = None

    def __del__(self) -> None:
        self.close()


def _rows(batch: GenerationBatch) -> RowGroup:
    return RowGroup(len(batch.uids), max(map(len, batch.tokens)))
