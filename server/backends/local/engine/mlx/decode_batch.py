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

from mlxdeck.server.backends.local.engine.mlx.drafting import Speculating, Speculation
from mlxdeck.server.backends.local.engine.mlx.ragged_cache import RowLengths, ragged
from mlxdeck.server.backends.local.engine.mlx.token_reader import expect
from mlxdeck.server.backends.local.engine.speculation.payoff import MOST_DRAFT, Draft
from mlxdeck.server.backends.local.engine.speculation.prompt_lookup import MIN_MATCH


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

    drafts: list[list[int]]
    match_lengths: list[int]
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
        self, rows: RowLengths, speculation: Speculation, *args: Any, **kwargs: Any
    ) -> None:
        """The rest is that of mlx-lm's class."""
        self._rows = rows
        self._speculation = speculation
        self._verification: _Verification | None = None
        self._drafts: list[list[int]] = []
        """Those of the next pass, one a row; empty for a stock step."""
        self._match_lengths: list[int] = []
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
        pending = self._pending()
        if pending is not None:
            self._plan(pending)
        found: list[Any] = super().next()
        if pending is None:
            for each in found:
                if known := self._speculation.sequences.get(each.uid):
                    known.drafter.feed(each.token)
        return told + found

    def _pending(self) -> list[int] | None:
        """What was drawn last of each row, if it's worth waiting for: a guess may follow it."""
        if not any(map(self._may_guess, self._speculating())):
            return None
        pending: list[int] = self._next_tokens.tolist()  # type: ignore[assignment]
        for each, token in zip(self._speculating(), pending, strict=True):
            if each:
                each.drafter.feed(token)
        return pending

    def _may_guess(self, sequence: Speculating | None) -> bool:
        if sequence is None or (length := sequence.drafter.length + 1) < MIN_MATCH:
            return False
        return self._speculation.payoff.pays(sequence.acceptance.share(length), len(self.uids))

    def _plan(self, pending: list[int]) -> None:
        """Choose the drafts of the next pass, if there are any that pay."""
        drafts: list[list[int]] = []
        offers = []
        for row, each in enumerate(self._speculating()):
            drafts.append(self._draft(row, each, pending[row]) if each else [])
            if each and drafts[-1]:
                share = each.acceptance.share(each.drafter.length)
                offers.append(Draft(len(drafts[-1]), share))
        width = self._speculation.payoff.width(offers, len(self.uids))
        if width > 1:
            self._drafts = [each[: width - 1] for each in drafts]
            self._match_lengths = [
                each.drafter.length if each else 0 for each in self._speculating()
            ]

    def _draft(self, row: int, sequence: Speculating, pending: int) -> list[int]:
        """A row's guess, cut where the answer must or would end."""
        stops = self._speculation.stops
        # The pending token and the one behind the draft are the answer's, too.
        most = min(MOST_DRAFT, self.max_tokens[row] - self._num_tokens[row] - 2)
        if pending in stops or most <= 0:
            return []
        draft = sequence.drafter.draft(most)
        ends = [n for n, token in enumerate(draft) if token in stops]
        draft = draft[: ends[0] + 1] if ends else draft
        for each in self.logits_processors[row] or ():
            if not draft or not hasattr(each, "takes"):
                return []
            draft = draft[: max(0, each.takes([pending, *draft]) - 1)]
        return draft

    def _step(self) -> tuple[list[int], list[mx.array]]:
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
        width = 1 + max(map(len, drafts))
        inputs = [
            [token, *draft, *[0] * (width - 1 - len(draft))]
            for token, draft in zip(tokens, drafts, strict=True)
        ]
        logits = self.model(mx.array(inputs), cache=self.prompt_cache)
        logits, marks = self._processed(logits, inputs, drafts)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        drawn = self._draw(logprobs, drafts)
        mx.async_eval(drawn, logprobs)  # type: ignore[no-untyped-call]
        self._verification = _Verification(
            *(drafts, self._match_lengths, drawn, logprobs, marks, began_s),
            n_others=self._speculation.n_others,
        )
        self._stepped = (0.0, 0, -1)
        self._current_tokens, self._current_logprobs = self._next_tokens, self._next_logprobs
        mx.eval(self._current_logprobs)
        for held, token in zip(self.tokens, tokens, strict=True):
            held.append(token)
        self._rows.add([1] * len(tokens))
        return tokens, self._current_logprobs

    def _processed(
        self, logits: mx.array, inputs: list[list[int]], drafts: list[list[int]]
    ) -> tuple[mx.array, dict[int, list[list[Any]]]]:
        """The logits after the processors of each row, and the states of these."""
        marks: dict[int, list[list[Any]]] = {}
        if not any(self.logits_processors):
            return logits, marks
        rows = []
        for row, processors in enumerate(self.logits_processors):
            changed = logits[row]
            if processors:
                n = 1 + len(drafts[row])
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

    def _draw(self, logprobs: mx.array, drafts: list[list[int]]) -> mx.array:
        """Draw behind each token of the pass, shape [rows, width]."""
        n_rows, width, _ = logprobs.shape
        first = self.samplers[0]
        if not hasattr(first, "back") and all(each is first for each in self.samplers):
            drawn: mx.array = first(logprobs.reshape(n_rows * width, -1))
            return drawn.reshape(n_rows, width)
        rows = []
        for row, sampler in enumerate(self.samplers):
            n = 1 + len(drafts[row])
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
        agreed = [_n_agreed(*each) for each in zip(done.drafts, drawn, strict=True)]
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
        draft, tokens = done.drafts[row], done.drafts[row][:n_agreed]
        self.tokens[row].extend(tokens)
        if hasattr(self.samplers[row], "back"):
            self.samplers[row].back(len(draft) - n_agreed)
        if marks := done.marks.get(row):
            self._token_context[row]._size -= len(draft) - n_agreed
            for processor, mark in zip(self.logits_processors[row], marks[n_agreed], strict=True):
                processor.back(mark)
        known = self._speculation.sequences.get(self.uids[row])
        if known and draft:
            known.n_drafted += len(draft)
            known.n_accepted += n_agreed
            known.acceptance.note(done.match_lengths[row], len(draft), n_agreed)
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
    found = ragged(batch.prompt_cache) if speculation else None
    if speculation is None or found is None:
        return batch.generate(last)
    rows, caches = found
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
    batch.uids, batch.prompt_cache = [], []
    return begun
