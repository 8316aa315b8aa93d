"""Detects an answer that repeats itself: one cycle of tokens, over and over."""

from __future__ import annotations

MAX_PERIOD = 64
MIN_REPEATS = 20
MIN_TOKENS = 256
"""A cycle of up to `MAX_PERIOD` tokens counts after so many repetitions and so many tokens."""
LOOK_EVERY = 32


class LoopGuard:
    """Watches the tokens of one answer, thinking included. Plain numbers, for the engine thread.

    A cycle is found with the very token that makes it long enough. Comparing every token with the
    64 before it would cost as much as the rest of a step. Instead, it looks from time to time for
    periods that have held for `LOOK_EVERY` tokens, and follows only those.
    """

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._runs: dict[int, int] = {}
        """Periods that hold, and how many of the last tokens are those of a period before."""

    def feed(self, token: int) -> bool:
        """Take the next token; return whether the answer is a loop by now."""
        tokens = self._tokens
        tokens.append(token)
        if self._runs and self._follow(token):
            return True
        if len(tokens) % LOOK_EVERY == 0:
            self._look()
        return False

    def _follow(self, token: int) -> bool:
        tokens, runs = self._tokens, self._runs
        for period in list(runs):
            if tokens[-1 - period] != token:
                del runs[period]
                continue
            runs[period] += 1
            if runs[period] + period >= max(MIN_REPEATS * period, MIN_TOKENS):
                return True
        return False

    def _look(self) -> None:
        tokens = self._tokens
        # Earlier tokens are no part of a new run: that run would have been found before.
        del tokens[: -4 * LOOK_EVERY]
        newest = tokens[-LOOK_EVERY:]
        last = newest[-1]
        for period in range(1, min(MAX_PERIOD, len(tokens) - LOOK_EVERY) + 1):
            # Most periods differ in the last token already.
            if tokens[-1 - period] != last or period in self._runs:
                continue
            if tokens[-LOOK_EVERY - period : -period] == newest:
                self._runs[period] = self._run(period)

    def _run(self, period: int) -> int:
        tokens, n = self._tokens, LOOK_EVERY
        while n + period < len(tokens) and tokens[-1 - n] == tokens[-1 - n - period]:
            n += 1
        return n
