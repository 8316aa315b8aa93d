"""Constrains answers to grammars with llguidance: a mask over the next token, only where needed.

A processor runs on the engine thread, once a token. It reads the last sampled token and makes the
mask while the model computes the logits. llguidance's own kernel for MLX needs Metal: here `where`
applies the mask.
"""

from __future__ import annotations

import copy
import functools
import itertools
import logging
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher, LLParserLimits

from mlxdeck.server.backends.local.engine.api import Constraint
from mlxdeck.server.backends.local.engine.mlx.token_masks import (
    TokenMask,
    masked,
    only,
    unpacked,
)
from mlxdeck.server.backends.local.engine.mlx.token_reader import TokenReader
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
# Fewer than a text allows, more than the values of a list or the digits of a number.
NARROW_TOKENS = 2000


class MlxGrammars:
    """The grammars of one model, compiled once each."""

    def __init__(self, wrapper: Any, n_logits: int = sys.maxsize) -> None:
        """`n_logits`: how many tokens the model knows, which may be fewer than its tokenizer."""
        self._wrapper = wrapper
        self._n_logits = n_logits
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
        compiled = self._compiled(constraint.grammar)
        return Processor(self.vocabulary, compiled, constraint, self._n_logits)


class Processor:
    """Masks the logits of one sequence while its grammar has hold of it. Engine thread."""

    def __init__(
        self, vocabulary: Vocabulary, compiled: LLMatcher, constraint: Constraint, n_logits: int
    ) -> None:
        self._vocabulary = vocabulary
        self._n_logits = n_logits
        self._tokenizer = vocabulary.tokenizer
        self._compiled = compiled
        self._constraint = constraint
        self._trigger = constraint.trigger.encode()
        self._thoughts = [each.encode() for each in constraint.thinking]
        self._in_thinking = constraint.in_thinking
        self._matcher: LLMatcher | None = None
        self._tail = b""
        self._forced: deque[int] = deque()
        self._is_copy = False
        self.is_narrow = False
        """Whether little may come next, so that something forced may follow it."""
        self.reader = TokenReader()
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
        self.saw(self.reader.new(tokens, logits))
        return masked(logits, [self.mask(logits.shape[-1])])

    def saw(self, tokens: Sequence[int]) -> None:
        """Go on behind tokens that are part of the answer now."""
        for token in tokens:
            if not self.broken:
                self._advance(token)

    def mask(self, n_logits: int) -> TokenMask | None:
        """Which tokens may come next; None is any. It breaks where no token of a model may."""
        self.is_narrow = False
        if self.broken:
            return None
        found = self._mask()
        error = self._matcher.get_error() if self._matcher is not None else ""
        if error or (found is not None and found.leaves_none(n_logits)):
            self._break(error or "the grammar allows no token")
            return None
        self.is_narrow = self.holds and found is not None and found.n_allowed < NARROW_TOKENS
        return found

    def forced(self, most: int) -> list[int]:
        """At most so many of the tokens that have to come next; none where there is a choice.

        They are those that the mask would allow one by one, in the model's own cut into tokens.
        """
        if self.broken or self._matcher is None or self._matcher.is_stopped():
            return []
        if not self._forced:
            found = self._matcher.compute_ff_tokens()
            self._forced.extend(itertools.takewhile(lambda each: each < self._n_logits, found))
        return list(itertools.islice(self._forced, most))

    def forced_behind(self, token: int, most: int) -> list[int]:
        """What is forced behind the next token, which is known but not part of the answer yet."""
        if not self.holds or self.broken:
            return []
        if self.forced(1) == [token]:
            return self.forced(most + 1)[1:]
        ahead = self._copy()
        ahead.saw([token])
        return ahead.forced(most)

    def takes(self, tokens: Sequence[int]) -> int:
        """How many of these tokens the grammar lets come next, one behind the other."""
        ahead = self._copy()
        for n, token in enumerate(tokens):
            if not ahead._lets(token):
                return n
            ahead._advance(token)
            if ahead.broken:
                return n
        return len(tokens)

    def _lets(self, token: int) -> bool:
        if self._matcher is None:
            return not self._constraint.final or token not in self._vocabulary.eos
        if self._matcher.is_stopped():
            return token in self._vocabulary.eos
        if forced := self.forced(1):
            return forced == [token]
        return bool(self._matcher.validate_tokens([token]))

    def mark(self) -> Processor:
        """The state behind the last token, for `back`."""
        return self._copy()

    def back(self, mark: Processor) -> None:
        """Return to a state, as if nothing had come behind it."""
        reader, told = self.reader, mark._copy()
        reader.back(told.reader)
        vars(self).update(vars(told), reader=reader, _is_copy=self._is_copy)

    def _copy(self) -> Processor:
        """In the same state; what happens to it is not logged."""
        made = copy.copy(self)
        made._matcher = self._matcher.deep_copy() if self._matcher is not None else None
        made._forced = self._forced.copy()
        made.reader = copy.copy(self.reader)
        made._is_copy = True
        return made

    def _mask(self) -> TokenMask | None:
        matcher, n_tokens = self._matcher, len(self._vocabulary.tokens)
        if matcher is None:
            return self._kept_open() if self._constraint.final else None
        if matcher.is_stopped():
            return only(self._vocabulary.eos, n_tokens)
        if next_token := self.forced(1):
            return only(next_token, n_tokens)
        return unpacked(matcher.compute_bitmask(), n_tokens)

    def _kept_open(self) -> TokenMask:
        """The required text comes after the trigger: the answer can't end before it."""
        allowed = np.ones(len(self._vocabulary.tokens), dtype=bool)
        allowed[self._vocabulary.eos] = False
        return TokenMask(allowed, others=True)

    def _advance(self, token: int) -> None:
        matcher = self._matcher
        if matcher is None:
            self._look_for_trigger([token])
            return
        if self._forced and self._forced[0] == token:
            self._forced.popleft()
        else:
            self._forced.clear()
        # Past its end, nothing but the end of the answer can come, which is no part of it.
        if not matcher.is_stopped() and not matcher.consume_token(token):
            self._break(matcher.get_error() or "a token that is not of the grammar")
        elif matcher.is_error():
            self._break(matcher.get_error())
        elif matcher.is_stopped() and not self._constraint.final:
            self._matcher = None
            self._forced.clear()

    def _break(self, why: str) -> None:
        self.broken = why.split("\n")[0]
        if not self._is_copy:
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


def _consumed(matcher: LLMatcher, vocabulary: Vocabulary, text: bytes) -> bool:
    """Whether a text is a beginning, in letters: how it is cut into tokens makes no difference."""
    return not text or bool(matcher.consume_tokens(vocabulary.encode(text)))
