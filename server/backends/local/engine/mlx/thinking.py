"""Ends a model's thinking when it has had its tokens: only the end marker may be written then."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import mlx.core as mx

from mlxdeck.server.backends.local.engine.api import ThinkingLimit
from mlxdeck.server.backends.local.engine.mlx.token_reader import TokenReader

# Enough of the text before to find a marker that is written in several tokens.
KEEP_CHARS = 64


class ThinkingBudget:
    """A logits processor for one sequence. Engine thread."""

    def __init__(
        self, thinking: ThinkingLimit, end_ids: Sequence[int], decode: Callable[[list[int]], str]
    ) -> None:
        """`end_ids` is the end marker in tokens; `decode` makes text of tokens."""
        self._thinking = thinking
        self._end_ids = list(end_ids)
        self._decode = decode
        self._is_open = thinking.is_open
        self._n_tokens = 0
        self._forced: list[int] = []
        self._tail = ""
        self.reader = TokenReader()
        self.paused: Callable[[], bool] = lambda: False
        """Whether something else has hold of the answer, in which nothing counts as thinking."""

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Called with all tokens up to now, shape [n], and the next logits, shape [1, vocab]."""
        only = self._next(self.reader.new(tokens, logits))
        if only is None:
            return logits
        mask = mx.arange(logits.shape[-1]) == only
        return mx.where(mask[None], logits, mx.array(-mx.inf, logits.dtype))

    def replay(self, written: Sequence[int], before: Callable[[int], None]) -> None:
        """Go on behind an answer that is there; `before` is told of each token first."""
        new: list[int] = []
        for token in written:
            self._next(new)
            before(token)
            new = [token]
        if new and not self.paused():
            self._saw(new)

    def _next(self, new: list[int]) -> int | None:
        """Go on behind new tokens; return the only one that may come next, None for any."""
        if new and not self.paused():
            self._saw(new)
        if self.paused():
            self._tail = ""
            return None
        spent = self._is_open and self._n_tokens >= self._thinking.max_tokens
        if spent and not self._forced and not self._is_ending():
            self._forced = list(self._end_ids)
        if not self._forced:
            return None
        only = self._forced.pop(0)
        if not self._forced:
            self._is_open = False
        return only

    def takes(self, tokens: list[int]) -> int:
        """No more than may be thought, and nothing behind what has to be written."""
        if self.paused():
            return len(tokens)
        if self._forced:
            return 0
        left = self._thinking.max_tokens - self._n_tokens
        return min(len(tokens), max(0, left)) if self._is_open else len(tokens)

    def mark(self) -> ThinkingBudget:
        """The state behind the last token."""
        made = copy.copy(self)
        made._forced, made.reader = list(self._forced), copy.copy(self.reader)
        return made

    def back(self, mark: ThinkingBudget) -> None:
        """Return to it."""
        self._is_open, self._n_tokens = mark._is_open, mark._n_tokens
        self._forced, self._tail = list(mark._forced), mark._tail
        self.reader.back(mark.reader)

    def _is_ending(self) -> bool:
        """Whether the model has begun to write the end itself."""
        end = self._thinking.end
        return any(self._tail.endswith(end[:n]) for n in range(1, len(end)))

    def _saw(self, new: list[int]) -> None:
        self._tail += self._decode(new)
        if self._is_open:
            self._n_tokens += len(new)
        marker = self._thinking.end if self._is_open else self._thinking.start
        before, found, after = self._tail.rpartition(marker)
        if found:
            self._is_open = not self._is_open
            self._tail = after
        else:
            self._tail = (before + after)[-KEEP_CHARS:]
