"""Holds answers to grammars with llguidance: a mask over the next token, only where one is needed.

A processor runs on the engine thread, once a token. It reads the token drawn last, which waits for
it to be computed; while its grammar has hold of the answer, it also computes a mask. llguidance's
own kernel for MLX is for Metal only: here the mask is applied by `where`.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from mlxdeck.server.engine import Constraint

log = logging.getLogger(__name__)

_LITERAL = re.compile(r'%marker ("(?:[^"\\]|\\.)*")')
MAX_GRAMMARS = 256
# Enough of the text before to find a trigger that is written in several tokens.
KEEP_BYTES = 256


class MlxGrammars:
    """The grammars of one model, compiled once each."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        # Kept by grammar; a copy of a compiled one costs next to nothing.
        self._compiled = functools.lru_cache(MAX_GRAMMARS)(self._compile)

    @functools.cached_property
    def _tokenizer(self) -> LLTokenizer:
        # Takes a second, which only those wait for that need it first.
        backend = self._wrapper._tokenizer
        return from_tokenizer(backend, eos_token=sorted(self._wrapper.eos_token_ids))

    def _compile(self, grammar: str) -> LLMatcher:
        lark = _LITERAL.sub(self._spelled, grammar)
        return LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0)

    def _spelled(self, found: re.Match[str]) -> str:
        """A literal with its special tokens as such: a grammar takes them for no text."""
        text = json.loads(found[1])
        special = sorted(self._wrapper._tokenizer.all_special_tokens, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, special))})", text) if special else [text]
        written = []
        for part in filter(None, parts):
            ids = self._tokenizer.tokenize_str(part) if part in special else ()
            single = f"<[{ids[0]}]>" if len(ids) == 1 else json.dumps(part, ensure_ascii=False)
            written.append(single)
        return " ".join(written)

    def check(self, grammar: str) -> str:
        """What is wrong with a grammar, or with this model's tokenizer; empty if nothing is."""
        if getattr(self._wrapper, "backend_tokenizer", None) is None:
            return "the tokenizer of this model can't be used for grammars"
        return str(self._compiled(grammar).get_error())

    def processor(self, constraint: Constraint) -> Processor:
        """A logits processor for one sequence."""
        return Processor(self._tokenizer, self._compiled(constraint.grammar), constraint)


class Processor:
    """Masks the logits of one sequence while its grammar has hold of it. Engine thread."""

    def __init__(self, tokenizer: LLTokenizer, compiled: LLMatcher, constraint: Constraint) -> None:
        self._tokenizer = tokenizer
        self._compiled = compiled
        self._trigger = constraint.trigger.encode()
        self._final = constraint.final
        self._matcher: LLMatcher | None = None
        if constraint.already is not None or not self._trigger:
            self._take_hold((constraint.already or "").encode())
        self._tail = b""
        self._n_seen = -1

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Called with all tokens so far, shape [n], and the next one's logits, shape [1, vocab]."""
        # The model works on its logits while the mask is made.
        mx.async_eval(logits)  # type: ignore[no-untyped-call]
        if self._n_seen < 0:
            # The prompt: what it ends with is none of the answer's.
            self._n_seen = tokens.shape[0]
        else:
            new: list[int] = tokens[self._n_seen :].tolist()  # type: ignore[assignment]
            self._n_seen += len(new)
            self._advance(new)
        if self._matcher is None:
            return logits
        return self._masked(self._matcher, logits)

    def _advance(self, new: list[int]) -> None:
        if self._matcher is not None:
            # Past its end, nothing but the end of the answer can come, which is no part of it.
            if not self._matcher.is_stopped() and not self._matcher.consume_tokens(new):
                log.warning("a grammar let go: %s", self._matcher.get_error().split("\n")[0])
                self._matcher = None
            elif self._matcher.is_stopped() and not self._final:
                self._matcher = None
            return
        if not self._trigger:
            return
        self._tail += self._tokenizer.decode_bytes(new)
        at = self._tail.find(self._trigger)
        if at < 0:
            self._tail = self._tail[-KEEP_BYTES:]
            return
        rest, self._tail = self._tail[at + len(self._trigger) :], b""
        # A token may reach beyond the trigger.
        self._take_hold(rest)

    def _take_hold(self, already: bytes) -> None:
        """Begin with what has been written; where that is not of the grammar, it stays away."""
        matcher = self._compiled.deep_copy()
        # The grammar only sees bytes, however they are cut into tokens.
        if not already or matcher.consume_tokens(self._tokenizer.tokenize_bytes(already)):
            self._matcher = matcher

    def _masked(self, matcher: LLMatcher, logits: mx.array) -> mx.array:
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.zeros(logits.shape[-1], dtype=bool)
        found = np.unpackbits(bits, bitorder="little")[: allowed.size]
        allowed[: found.size] = found
        return mx.where(mx.array(allowed)[None], logits, mx.array(-mx.inf, logits.dtype))
