"""The prompts of a made-up day as tokens, and what a cache without a limit would know of them."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from functools import lru_cache

from tests.corpora.day.conversation import Prompt, short_hash
from tests.corpora.day.requests import Ask


@lru_cache(maxsize=8192)
def part_tokens(name: str, n: int) -> bytes:
    """The tokens of a part of a prompt: always the same for the same name."""
    first = random.Random(name).randrange(1 << 31)
    return array("I", range(first, first + n)).tobytes()


def prompt_tokens(prompt: Prompt) -> bytes:
    """The tokens of a whole prompt."""
    starts = (0, *prompt.ends)
    return b"".join(
        part_tokens(name, end - start)
        for name, start, end in zip(prompt.parts, starts, prompt.ends, strict=False)
    )


def answer_name(ask: Ask) -> str:
    """What the conversation calls the message that the answer becomes."""
    return short_hash(ask.conversation.name, ask.n_messages, ("answer", ask.key))


def answer_tokens(ask: Ask) -> bytes:
    """Those of its answer, equal to what the next turn says of it."""
    return part_tokens(answer_name(ask), max(1, min(ask.output_tokens, ask.max_tokens)))


class Unlimited:
    """A cache that never forgets, to compare with: prompts as chains of parts."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...] | str, int] = {}

    def keep(self, parts: Sequence[str], ends: Sequence[int], n: int) -> None:
        """The first `n` tokens of these parts were computed."""
        chain, start = "", 0
        for part, end in zip(parts, ends, strict=True):
            chain = short_hash(chain, part)
            self._known[chain] = max(self._known.get(chain, 0), min(n, end) - start)
            start = end
            if n <= end:
                return

    def find(self, prompt: Prompt) -> int:
        """How many tokens of a prompt are known."""
        chain, start = "", 0
        for part, end in zip(prompt.parts, prompt.ends, strict=True):
            chain = short_hash(chain, part)
            n = self._known.get(chain, 0)
            if n < end - start:
                return min(start + n, prompt.n_tokens - 1)
            start = end
        return prompt.n_tokens - 1
