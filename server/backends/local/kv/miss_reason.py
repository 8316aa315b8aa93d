"""Why a prompt was not in the cache: compares it with recent prompts.

Remembers the tokens of recent prompts, even after their states were evicted.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mlxdeck.server.backends.local.kv.token_bytes import TOKEN_BYTES, n_common, n_tokens
from mlxdeck.server.request_facts import Miss

MAX_PROMPTS = 64
HASH_DIGITS = 8

PartAt = Callable[[int], tuple[str, int, int]]
"""(token index) -> name, start and end of the part of the request there; -1 for an open end."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    tokens: bytes
    part_at: PartAt
    tail_start: int


@dataclass(frozen=True, slots=True)
class Nearest:
    """The prompt that came nearest to another, if any did."""

    prompt: _Prompt | None
    n_same: int
    """How many leading tokens they share."""


class MissExplainer:
    """The recent prompts."""

    def __init__(self) -> None:
        self._prompts: OrderedDict[bytes, _Prompt] = OrderedDict()

    def add(self, tokens: bytes, part_at: PartAt, tail_start: int) -> None:
        """Remember a prompt; `tail_start` is where the next turn may diverge."""
        key = hashlib.sha256(tokens).digest()
        self._prompts.pop(key, None)
        self._prompts[key] = _Prompt(tokens, part_at, tail_start or n_tokens(tokens))
        while len(self._prompts) > MAX_PROMPTS:
            self._prompts.popitem(last=False)

    def compare(self, tokens: bytes) -> Nearest:
        """Find the prompt that came nearest. To be asked before `add`."""
        nearest, n_same = None, 0
        # Of equally near ones the latest: it is the one that a user would think of.
        for prompt in reversed(self._prompts.values()):
            if (n := n_common(tokens, prompt.tokens)) > n_same:
                nearest, n_same = prompt, n
        return Nearest(nearest, n_same)


def explain(tokens: bytes, part_at: PartAt, n_cached: int, nearest: Nearest) -> Miss:
    """Why only `n_cached` leading tokens of a prompt were known."""
    prompt, n_same = nearest.prompt, nearest.n_same
    first_part = part_at(0)[1]
    if prompt is None or n_same <= max(first_part, n_cached - 1):
        # A state may also be of a prompt before this start, or of a prefill without a request.
        return Miss() if n_cached > first_part else Miss("cold")
    n_wanted = n_tokens(tokens) - 1
    if n_same < min(n_wanted, prompt.tail_start):
        name, start, end = part_at(n_same)
        _, their_start, their_end = prompt.part_at(n_same)
        ours = _hash(tokens, start, end)
        return Miss("diverged", n_same, name, ours, _hash(prompt.tokens, their_start, their_end))
    # Everything that could be shared is; it is a miss only if the state was evicted.
    return Miss("evicted") if n_cached < min(n_wanted, prompt.tail_start) else Miss()


def _hash(tokens: bytes, start: int, end: int) -> str:
    part = tokens[start * TOKEN_BYTES : end * TOKEN_BYTES if end >= 0 else None]
    return hashlib.sha256(part).hexdigest()[:HASH_DIGITS]
