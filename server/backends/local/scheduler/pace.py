"""How long the model takes for a step, learned from the steps that it has done. Pure arithmetic."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

N_SAMPLES = 9
"""So many steps are remembered. Their median counts: other programs use the processor too."""
LEAST_TOKENS = 16
"""Passes over fewer tokens tell little about the time of a token."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """Seconds of a decode step, of a pass of the model over nothing, and of each token in it.

    The defaults are guesses, for the first moment. Only the ratios between them matter.
    """

    decode_s: float = 0.02
    pass_s: float = 0.02
    token_s: float = 0.0007

    def pass_over_s(self, n_tokens: int) -> float:
        """Seconds of one pass."""
        return self.pass_s + n_tokens * self.token_s

    def tokens_within(self, seconds: float) -> int:
        """How many tokens one pass reads in that time."""
        return int(max(0.0, seconds - self.pass_s) / self.token_s)


class Pace:
    """Observes steps."""

    def __init__(self) -> None:
        self._decode_s: deque[float] = deque(maxlen=N_SAMPLES)
        self._token_s: deque[float] = deque(maxlen=N_SAMPLES)
        self.speeds = Speeds()

    def observe(self, seconds: float, *, decodes: bool, read_tokens: int) -> None:
        """Take note of a step: whether it drew tokens, and what it read, padding included."""
        known = self.speeds
        if not read_tokens:
            if not decodes:
                return
            self._decode_s.append(seconds)
        elif read_tokens >= LEAST_TOKENS:
            rest_s = seconds - known.pass_s - (known.decode_s if decodes else 0.0)
            # Even where a pass costs nothing but its overhead, a token is not free.
            least_s = known.pass_s / 1024
            self._token_s.append(max(least_s, rest_s / read_tokens))
        # A pass has to read the weights, as a decode step does.
        decode_s = _middle(self._decode_s, known.decode_s)
        self.speeds = Speeds(decode_s, decode_s, _middle(self._token_s, known.token_s))


def _middle(samples: deque[float], otherwise: float) -> float:
    return statistics.median(samples) if samples else otherwise
