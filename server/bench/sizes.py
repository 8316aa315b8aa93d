"""How much is asked of a server, so that it takes about as long on any machine. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

WHOLE_S = 300.0
QUICK_S = 60.0
UNKNOWN_WINDOW_TOKENS = 8192
"""Taken for servers that don't tell how long a prompt may be."""
SHARES = {"prompts": 0.35, "clients": 0.2, "rewrite": 0.2, "held": 0.15}
"""Of the time; restarts and the start take what is left."""
PART_TOKENS = 75
"""About what a part of the file takes."""
BATCH_TIMES = 5.6
"""An answer's time, and those of 4 and of 8 at once, in answers that run alone."""


@dataclass(frozen=True, slots=True)
class ServerPace:
    """How fast a server is, as a first short request has shown."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    tokens_per_word: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lengths and repetitions, the same for all servers that are compared."""

    prompt_words: int
    """Of a system prompt."""
    new_words: int
    """Of the user's next turn."""
    answer_tokens: int
    """Of each answer where several clients ask."""
    file_parts: int
    rewrite_tokens: int
    """At most."""
    n_rounds: int
    budget_s: float


def sizes(pace: ServerPace, window_tokens: int, *, quick: bool) -> Sizes:
    """For a server of that pace."""
    budget_s, n_rounds = (QUICK_S, 1) if quick else (WHOLE_S, 3)
    prompt_s = SHARES["prompts"] * budget_s / (1.2 * n_rounds)
    window = window_tokens or UNKNOWN_WINDOW_TOKENS
    prompt_tokens = _within(prompt_s * pace.prefill_tokens_per_s, 192, min(window // 2, 16_000))
    n_batches = min(2, n_rounds)
    answer_s = SHARES["clients"] * budget_s / (BATCH_TIMES * n_batches)
    written_s = SHARES["rewrite"] * budget_s / (2 * n_batches)
    parts = written_s * pace.decode_tokens_per_s / PART_TOKENS
    # The file stands in the prompt, too.
    file_parts = int(_within(parts, 2, min(10, window // (4 * PART_TOKENS))))
    return Sizes(
        prompt_words=int(prompt_tokens / pace.tokens_per_word),
        new_words=int(_within(prompt_tokens / 16, 16, 400) / pace.tokens_per_word),
        answer_tokens=int(_within(answer_s * pace.decode_tokens_per_s, 16, 128)),
        file_parts=file_parts,
        rewrite_tokens=int(1.2 * file_parts * PART_TOKENS),
        n_rounds=n_rounds,
        budget_s=budget_s,
    )


def _within(value: float, low: float, high: float) -> float:
    return max(min(value, high), min(low, high))
