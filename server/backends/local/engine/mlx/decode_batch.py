"""Steps of several tokens a row: mlx-lm's batch of sequences that are written, with drafts.

A pass reads each row's last token and a draft of what follows. Its logits say what would have been
drawn behind each, so a draft is accepted as far as it equals that: the text is the same as without
drafts, and drawn from the same distribution, as every token is drawn from its own logits. A row
without a draft gets its one token out of the same pass. With no draft in any row, mlx-lm's own step
runs. Engine thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch
from mlx_lm.sample_utils import greedy_sampler

from mlxdeck.server.backends.local.engine.mlx.draft_planning import (
    DecodeRow,
    DraftPlanner,
    RowDraft,
)
from mlxdeck.server.backends.local.engine.mlx.drafting import Speculating, Speculation
from mlxdeck.server.backends.local.engine.mlx.ragged_cache import RowLengths, UncutRows, ragged
from mlxdeck.server.backends.local.engine.mlx.token_reader import expect


@dataclass(frozen=True, slots=True)
class AcceptedToken:
    """A token of a draft that was drawn too, told like a response of mlx-lm."""

    uid: int
    token: int
    logprobs: mx.array
    finish_reason: str | None = None
    prompt_cache: list[Any] | None = None
    all_tokens: list[int] | None = None


@dataclass(slots=True)
class _Verification:
    """A pass over drafts that is being computed."""

    drafts: list[RowDraft]
    drawn: mx.array
    """Shape [rows, width]: what is drawn behind each token of the pass."""
    logprobs: mx.array
    """Shape [rows, width, vocabulary]."""
    marks: dict[int, list[list[Any]]]
    """Of rows with processors: the state of each, behind each token of the pass."""
    began_s: float
    n_others: int


class DecodeBatch(GenerationBatch):  # type: ignore[misc]
    """A batch whose rows may take several tokens in a step.

    Overrides what it needs of mlx-lm's class. Between two calls `_next_tokens` is what was drawn
    last of each row, as there, or a verification is under way.
    """

    def __init__(
        self, rows: RowLengths | UncutRows, speculation: Speculation, *args: Any, **kwargs: Any
    ) -> None:
        """The rest is that of mlx-lm's class."""
        self._planner = DraftPlanner(speculation, can_cut=isinstance(rows, RowLengths))
        self._rows: Any = rows
        self._speculation = speculation
        self._verification: _Verification | None = None
        self._drafts: list[RowDraft] = []
        """Those of the next pass, one a row; empty for a stock step."""
        self._is_new = True
        self._stepped = (0.0, 0, -1)
        """When the last stock step was done, with how many rows and beside what."""
        self._accepted: list[list[tuple[int, mx.array]]] = []
        """Accepted tokens of each row that were not told yet, with their log-probabilities."""
        super().__init__(*args, **kwargs)
        self._accepted = [[] for _ in self.uids]
        for each in self._speculating():
            # The first pass runs meanwhile.
            if each:
                each.drafter.index()

    def _speculating(self) -> list[Speculating | None]:
        return [self._speculation.sequences.get(uid) for uid in self.uids]

    def next(self) -> list[Any]:
        """Tell the tokens of each row that are drawn, in their order, and begin the next pass."""
        self._settle()
        told = self._tell_accepted()
        if not self.uids:
            return told
        pending = self._plan()
        found: list[Any] = super().next()
        if pending is None:
            for each in found:
                if known := self._speculation.sequences.get(each.uid):
                    known.drafter.feed(each.token)
        return told + found

    def _plan(self) -> list[int] | None:
        """Choose the next pass's drafts; what was drawn last of each row, if it was waited for."""
        rows = self._decode_rows()
        if not self._planner.awaits(rows):
            return None
        pending: list[int] = self._next_tokens.tolist()  # type: ignore[assignment]
        for row, token in zip(rows, pending, strict=True):
            if row.sequence:
                row.sequence.drafter.feed(token)
        self._drafts = self._planner.plan(rows, pending)
        return pending

    def _decode_rows(self) -> list[DecodeRow]:
        left = [a - b for a, b in zip(self.max_tokens, self._num_tokens, strict=True)]
        rows = zip(self._speculating(), self.logits_processors, left, strict=True)
        return [DecodeRow(each, processors or (), n) for each, processors, n in rows]

    def _step(self) -> tuple[list[int], list[mx.array]]:
        if self._is_new:
            self._is_new = False
            self._drafts = self._planner.plan_first(self._decode_rows())
        if self._drafts:
            return self._verify()
        expect(self._next_tokens, self.logits_processors)
        found: tuple[list[int], list[mx.array]] = super()._step()
        self._rows.add([1] * len(self.uids))
        self._note_stock_step()
        return found

    def _note_stock_step(self) -> None:
        now_s, n_rows, others = time.perf_counter(), len(self.uids), self._speculation.n_others
        last_s, *beside = self._stepped
        if beside == [n_rows, others]:
            self._speculation.payoff.costs.note(n_rows, 1, now_s - last_s)
        self._stepped = now_s, n_rows, others

    def _verify(self) -> tuple[list[int], list[mx.array]]:
        """Begin a pass over the drafts; as mlx-lm's `_step`, return what was drawn before."""
        began_s = time.perf_counter()
        drafts, self._drafts = self._drafts, []
        tokens: list[int] = self._next_tokens.tolist()  # type: ignore[assignment]
        width = 1 + max(len(each.tokens) for each in drafts)
        inputs = [
            [token, *each.tokens, *[0] * (width - 1 - len(each.tokens))]
            for token, each in zip(tokens, drafts, strict=True)
        ]
        logits = self.model(mx.array(inputs), cache=self.prompt_cache)
        logits, marks = self._processed(logits, inputs, drafts)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        drawn = self._draw(logprobs, drafts)
        mx.async_eval(drawn, logprobs)  # type: ignore[no-untyped-call]
        self._verification = _Verification(
            *(drafts, drawn, logprobs, marks, began_s), n_others=self._speculation.n_others
        )
        self._stepped = (0.0, 0, -1)
        self._current_tokens, self._current_logprobs = self._next_tokens, self._next_logprobs
        mx.eval(self._current_logprobs)
        for held, token in zip(self.tokens, tokens, strict=True):
            held.append(token)
        self._rows.add([1] * len(tokens))
        return tokens, self._current_logprobs

    def _processed(
        self, logits: mx.array, inputs: list[list[int]], drafts: list[RowDraft]
    ) -> tuple[mx.array, dict[int, list[list[Any]]]]:
        """The logits after the processors of each row, and the states of these."""
        marks: dict[int, list[list[Any]]] = {}
        if not any(self.logits_processors):
            return logits, marks
        rows = []
        for row, processors in enumerate(self.logits_processors):
            changed = logits[row]
            if processors:
                n = 1 + len(drafts[row].tokens)
                changed, marks[row] = self._row_processed(row, changed, inputs[row][:n])
            rows.append(changed)
        return mx.stack(rows), marks

    def _row_processed(
        self, row: int, logits: mx.array, tokens: list[int]
    ) -> tuple[mx.array, list[list[Any]]]:
        whole = self._token_context[row].update_and_fetch(mx.array(tokens))
        first = whole.shape[0] - len(tokens) + 1
        contexts = [whole[: first + n] for n in range(len(tokens))]
        # Before the pass, so that reading them doesn't wait for it.
        mx.eval(contexts)
        changed, marks = [], []
        for n, context in enumerate(contexts):
            one = logits[n : n + 1]
            for processor in self.logits_processors[row]:
                one = processor(context, one)
            changed.append(one)
            if len(tokens) > 1:
                marks.append([each.mark() for each in self.logits_processors[row]])
        return mx.concatenate([*changed, logits[len(tokens) :]]), marks

    def _draw(self, logprobs: mx.array, drafts: list[RowDraft]) -> mx.array:
        """Draw behind each token of the pass, shape [rows, width]."""
        n_rows, width, _ = logprobs.shape
        first = self.samplers[0]
        if not hasattr(first, "back") and all(each is first for each in self.samplers):
            drawn: mx.array = first(logprobs.reshape(n_rows * width, -1))
            return drawn.reshape(n_rows, width)
        rows = []
        for row, sampler in enumerate(self.samplers):
            n = 1 + len(drafts[row].tokens)
            rows.append(mx.pad(sampler(logprobs[row, :n]), (0, width - n)))
        return mx.stack(rows)

    def _settle(self) -> None:
        """Wait for a verification, and take over what it accepts."""
        if (done := self._verification) is None:
            return
        self._verification = None
        drawn: list[list[int]] = done.drawn.tolist()  # type: ignore[assignment]
        if done.n_others == self._speculation.n_others:
            seconds = time.perf_counter() - done.began_s
            n_rows, width = done.drawn.shape
            self._speculation.payoff.costs.note(n_rows, width, seconds)
        agreed = [_n_agreed(a.tokens, b) for a, b in zip(done.drafts, drawn, strict=True)]
        logprobs = [
            [done.logprobs[row, place] for place in range(n + 1)] for row, n in enumerate(agreed)
        ]
        mx.eval(logprobs)
        self._accepted = [
            list(zip(tokens[:n], found, strict=False))
            for tokens, n, found in zip(drawn, agreed, logprobs, strict=True)
        ]
        last = [tokens[n] for tokens, n in zip(drawn, agreed, strict=True)]
        self._next_tokens = mx.array(last, done.drawn.dtype)
        self._next_logprobs = [each[-1] for each in logprobs]
        self._rows.add(agreed)
        for row, n in enumerate(agreed):
            self._settle_row(row, n, done)

    def _settle_row(self, row: int, n_agreed: int, done: _Verification) -> None:
        draft, tokens = done.drafts[row], done.drafts[row].tokens[:n_agreed]
        n_wrong = len(draft.tokens) - n_agreed
        self.tokens[row].extend(tokens)
        if hasattr(self.samplers[row], "back"):
            self.samplers[row].back(n_wrong)
        if marks := done.marks.get(row):
            self._token_context[row]._size -= n_wrong
            for processor, mark in zip(self.logits_processors[row], marks[n_agreed], strict=True):
                processor.back(mark)
        known = self._speculation.sequences.get(self.uids[row])
        if known and draft.tokens:
            known.settle(draft.n_forced, draft.match_length, len(draft.tokens), n_agreed)
            for token in tokens:
                known.drafter.feed(token)

    def _tell_accepted(self) -> list[AcceptedToken]:
        told, keep = [], []
        for row, accepted in enumerate(self._accepted):
            reason = None
            for n, (token, logprobs) in enumerate(accepted):
                reason = self._finish_reason(row, token)
                one = AcceptedToken(self.uids[row], token, logprobs)
                if reason:
                    n_more = len(accepted) - n - 1
                    self._cut(row, n_more)
                    state = self.extract_cache(row)
                    one = AcceptedToken(one.uid, token, logprobs, reason, state, self.tokens[row])
                told.append(one)
                if reason:
                    break
            if not reason:
                keep.append(row)
        self._accepted = [[] for _ in self.uids]
        if len(keep) < len(self.uids):
            self.filter(keep)
        return told

    def _finish_reason(self, row: int, token: int) -> str | None:
        """As mlx-lm's `next` finds it."""
        self._num_tokens[row] += 1
        if self._matchers[row].advance(token):
            return "stop"
        return "length" if self._num_tokens[row] >= self.max_tokens[row] else None

    def _cut(self, row: int, n_tokens: int) -> None:
        """Leave out a row's last tokens."""
        if n_tokens:
            del self.tokens[row][-n_tokens:]
            self._rows.add([-n_tokens * (each == row) for each in range(len(self.uids))])

    def extract_cache(self, idx: int) -> list[Any]:
        """A row's own cache, of exactly its `tokens`."""
        self._settle()
        return super().extract_cache(idx)  # type: ignore[no-any-return]

    def filter(self, keep: list[int]) -> None:
        """Keep only these rows."""
        self._settle()
        super().filter(keep)
        self._rows.filter(keep)
        self._accepted = [self._accepted[row] for row in keep]

    def extend(self, batch: DecodeBatch) -> None:
        """Add another batch's rows."""
        self._settle()
        batch._settle()
        super().extend(batch)
        self._rows.extend(batch._rows)
        self._accepted.extend(batch._accepted)


def _n_agreed(draft: list[int], drawn: list[int]) -> int:
    """How many tokens of a draft were drawn too, before the first that was not."""
    for n, (ours, theirs) in enumerate(zip(draft, drawn, strict=False)):
        if ours != theirs:
            return n
    return len(draft)


def begin(
    batch: PromptProcessingBatch, last: list[list[int]], speculation: Speculation | None
) -> GenerationBatch:
    """Begin to write behind prompts of which only the last token is not read.

    Without speculation, or if the model's caches don't allow it, it's mlx-lm's own batch.
    """
    if speculation is None:
        return batch.generate(last)
    found = ragged(batch.prompt_cache)
    if found is None and not speculation.forces:
        return batch.generate(last)
    rows, caches = found or (UncutRows(), batch.prompt_cache)
    # Before the first pass: what is held twice is copied as it is written to.
    batch.prompt_cache = []
    del found
    begun = DecodeBatch(
        rows,
        speculation,
        batch.model,
        batch.uids,
        mx.array([each[-1] for each in last]),
        caches,
        batch.tokens,
        batch.samplers,
        greedy_sampler,
        batch.logits_processors,
        batch.stop_sequences,
        batch.max_tokens,
    )
    # Its lists are the new batch's from now on.
    batch.uids = []
    return begun
