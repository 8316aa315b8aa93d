"""Constrains answers to grammars with llguidance: a mask over the next token, only where needed.

A processor runs on the engine thread, once a token. It reads the last sampled token, which makes it
wait for the computation. While its grammar is active, it also computes a mask. llguidance's own
kernel for MLX needs Metal: here `where` applies the mask.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher, LLParserLimits

from mlxdeck.server.backends.local.engine.api import Constraint
from mlxdeck.server.backends.local.engine.mlx.vocabulary import Vocabulary

log = logging.getLogger(__name__)

MAX_GRAMMARS = 256
# All are several times the needs of any agent's tools. They limit the compilation of a grammar to
# about half a second, without the interpreter's lock. They limit a mask to a few milliseconds.
LIMITS = LLParserLimits(
    max_grammar_size=100_000,
    step_lexer_fuel=50_000,
    step_max_items=10_000,
    max_items_in_row=1_000,
    max_lexer_states=50_000,
)
TRIED_STEPS = 24
# Enough of the text before to find a trigger that is written in several tokens.
KEEP_BYTES = 256


class MlxGrammars:
    """The grammars of one model, compiled once each."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        # Kept by grammar; a copy of a compiled one costs next to nothing.
        self._compiled = functools.lru_cache(MAX_GRAMMARS)(self._compile)
        self._tried = functools.lru_cache(MAX_GRAMMARS)(self._try)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """Takes a second, or several for a large one: `prepare` makes it before a request waits."""
        return Vocabulary(self._wrapper._tokenizer, sorted(self._wrapper.eos_token_ids))

    def prepare(self) -> None:
        """Make what all grammars need."""
        if self._usable:
            _ = self.vocabulary

    @property
    def _usable(self) -> bool:
        return getattr(self._wrapper, "backend_tokenizer", None) is not None

    def _compile(self, grammar: str) -> LLMatcher:
        lark = LLMatcher.grammar_from_lark(self.vocabulary.spelled(grammar))
        return LLMatcher(self.vocabulary.tokenizer, lark, log_level=0, limits=LIMITS)

    def _try(self, grammar: str) -> str:
        """The error of a grammar and its first steps: some grammars compile but accept nothing."""
        matcher = self._compiled(grammar)
        if matcher.is_error():
            return str(matcher.get_error())
        begun = matcher.deep_copy()
        for _ in range(TRIED_STEPS):
            tokens = begun.compute_ff_tokens()
            if not tokens:
                bits = np.frombuffer(begun.compute_bitmask(), dtype=np.uint8)
                tokens = [int(np.unpackbits(bits, bitorder="little").argmax())]
            if begun.is_error() or begun.is_stopped() or not begun.consume_tokens(tokens):
                break
        return str(begun.get_error())

    def check(self, grammar: str, already: str = "") -> str:
        """The error of a grammar, or of this model's tokenizer; empty if there is none."""
        if not self._usable:
            return "the tokenizer of this model can't be used for grammars"
        error = self._tried(grammar)
        if error or not already:
            return error
        begun = self._compiled(grammar).deep_copy()
        return "" if _consumed(begun, self.vocabulary, already.encode()) else begun.get_error()

    def processor(self, constraint: Constraint) -> Processor:
        """A logits processor for one sequence."""
        return Processor(self.vocabulary, self._compiled(constraint.grammar), constraint)


class Processor:
    """Masks the logits of one sequence while its grammar has hold of it. Engine thread."""

    def __init__(self, vocabulary: Vocabulary, compiled: LLMatcher, constraint: Constraint) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = vocabulary.tokenizer
        self._eos = vocabulary.eos
        self._compiled = compiled
        self._constraint = constraint
        self._trigger = constraint.trigger.encode()
        self._thoughts = [each.encode() for each in constraint.thinking]
        self._in_thinking = constraint.in_thinking
        self._matcher: LLMatcher | None = None
        self._tail = b""
        self._n_seen = -1
        self.broken = ""
        """Why the answer is not held any more although it should be; final."""
        if constraint.already is not None or not self._trigger:
            self._take_hold((constraint.already or "").encode())

    @property
    def holds(self) -> bool:
        """Whether the next token is one of the grammar's."""
        return self._matcher is not None

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Called with all tokens up to now, shape [n], and the next logits, shape [1, vocab]."""
        # The model works on its logits while the mask is made.
        mx.async_eval(logits)  # type: ignore[no-untyped-call]
        if self._n_seen < 0:
            # The prompt: its last tokens are not part of the answer.
            self._n_seen = tokens.shape[0]
        else:
            new: list[int] = tokens[self._n_seen :].tolist()  # type: ignore[assignment]
            self._n_seen += len(new)
            self._advance(new)
        if self.broken:
            return logits
        if self._matcher is None:
            return self._kept_open(logits) if self._constraint.final else logits
        return self._masked(self._matcher, logits)

    def _kept_open(self, logits: mx.array) -> mx.array:
        """The required text comes after the trigger: the answer can't end before it."""
        ends = np.zeros(logits.shape[-1], dtype=bool)
        ends[[token for token in self._eos if token < ends.size]] = True
        return mx.where(mx.array(ends)[None], mx.array(-mx.inf, logits.dtype), logits)

    def _advance(self, new: list[int]) -> None:
        matcher = self._matcher
        if self.broken:
            return
        if matcher is None:
            self._look_for_trigger(new)
        # Past its end, nothing but the end of the answer can come, which is no part of it.
        elif not matcher.is_stopped() and not matcher.consume_tokens(new):
            self._break(matcher.get_error() or "a token that is not of the grammar")
        elif matcher.is_error():
            self._break(matcher.get_error())
        elif matcher.is_stopped() and not self._constraint.final:
            self._matcher = None

    def _break(self, why: str) -> None:
        self.broken = why.split("\n")[0]
        log.warning("an answer left its grammar: %s", self.broken)

    def _look_for_trigger(self, new: list[int]) -> None:
        if not self._trigger:
            return
        self._tail += self._tokenizer.decode_bytes(new)
        while found := self._next_mark():
            mark, rest = found
            self._tail = rest
            if mark == self._trigger:
                self._tail = b""
                # A token may reach beyond the trigger.
                self._take_hold(rest)
                return
            self._in_thinking = not self._in_thinking
        self._tail = self._tail[-KEEP_BYTES:]

    def _next_mark(self) -> tuple[bytes, bytes] | None:
        """What comes first in the text: the trigger, or where thinking begins or ends."""
        marks = [self._trigger]
        if self._thoughts:
            # A call that the model mentions in its thinking is no call.
            marks = [self._thoughts[1]] if self._in_thinking else [*marks, self._thoughts[0]]
        found = [(at, mark) for mark in marks if (at := self._tail.find(mark)) >= 0]
        if not found:
            return None
        at, mark = min(found)
        return mark, self._tail[at + len(mark) :]

    def _take_hold(self, already: bytes) -> None:
        """Start with the client's text; stay inactive if the grammar doesn't accept it."""
        matcher = self._compiled.deep_copy()
        if _consumed(matcher, self._vocabulary, already):
            self._matcher = matcher

    def _masked(self, matcher: LLMatcher, logits: mx.array) -> mx.array:
        # A vocabulary may have been padded, or a tokenizer may know more than the model.
        allowed = np.zeros(logits.shape[-1], dtype=bool)
        if matcher.is_stopped():
            allowed[[token for token in self._eos if token < allowed.size]] = True
        else:
            bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
            found = np.unpackbits(bits, bitorder="little")[: allowed.size]
            allowed[: found.size] = found
        if matcher.is_error() or not allowed.any():
            self._break(matcher.get_error() or "the grammar allows no token")
            return logits
        return mx.where(mx.array(allowed)[None], logits, mx.array(-mx.inf, logits.dtype))


def _consumed(matcher: LLMatcher, vocabulary: Vocabulary, text: bytes) -> bool:
    """Whether a text is a beginning, in letters: how it is cut into tokens makes no difference."""
    return not text or bool(matcher.consume_tokens(vocabulary(text)))
