"""Passes of the model that prompt lookup needs for a known answer: counted, without a model.

Drafts, their cuts and the choice of widths are those of the engine's own planner.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdeck.server.backends.local.engine.mlx.draft_planning import DecodeRow, DraftPlanner
from mlxdeck.server.backends.local.engine.mlx.drafting import Speculating, Speculation
from mlxdeck.server.backends.local.engine.speculation.payoff import Acceptance, Payoff
from mlxdeck.server.backends.local.engine.speculation.prompt_lookup import PromptLookup
from tests.corpora.edits import edits
from tests.corpora.prose import PASSAGES

COSTS = {"no more": 0.0, "as on Metal": 0.02, "as on a processor": 0.2}
"""What a further token of a pass costs, of a pass over one."""


@dataclass(slots=True)
class Counted:
    """Passes of answers."""

    n_tokens: int = 0
    n_passes: int = 0
    n_drafted: int = 0
    n_accepted: int = 0

    @property
    def tokens_a_pass(self) -> float:
        """How many a pass brings."""
        return self.n_tokens / self.n_passes


def count(pairs: Iterable[tuple[Sequence[int], Sequence[int]]], payoff: Payoff) -> Counted:
    """All passes behind these prompts until these answers are written, one after the other."""
    total = Counted()
    for prompt, answer in pairs:
        _count(prompt, answer, payoff, total)
    return total


def _count(prompt: Sequence[int], answer: Sequence[int], payoff: Payoff, total: Counted) -> None:
    planner = DraftPlanner(Speculation(payoff), can_cut=True)
    sequence = Speculating(PromptLookup(prompt), Acceptance(payoff.acceptance))
    sequence.drafter.index()
    at = 0
    while at < len(answer):
        total.n_passes += 1
        row = DecodeRow(sequence, (), len(answer) - at)
        awaited = planner.awaits([row])
        sequence.drafter.feed(answer[at])
        drafts = planner.plan([row], [answer[at]]) if awaited else []
        guess = drafts[0].tokens if drafts else []
        following = answer[at + 1 : at + 1 + len(guess)]
        n_right = next(
            (n for n, pair in enumerate(zip(guess, following, strict=False)) if len({*pair}) > 1),
            min(len(guess), len(following)),
        )
        if guess:
            sequence.settle(0, drafts[0].match_length, len(guess), n_right)
            total.n_drafted += len(guess)
            total.n_accepted += n_right
        for token in guess[:n_right]:
            sequence.drafter.feed(token)
        at += 1 + n_right
    total.n_tokens += len(answer)


def rewrites(encode: Any, n: int) -> list[tuple[list[int], list[int]]]:
    """Prompts with a file, and the whole file with a change, in tokens."""
    whole = [each for each in edits() if each.facts["way"] == "whole"]
    found = []
    for each in whole[:: max(1, len(whole) // n)][:n]:
        asked = f"{each.request['system']}\n\n{each.request['messages'][0]['content']}\n\n"
        found.append((encode(asked), encode(each.expected[0]["text"])))
    return found


def strangers(encode: Any) -> list[tuple[list[int], list[int]]]:
    """Prompts and answers that have nothing to do with one another: passages of books."""
    texts = [encode(each.text) for each in PASSAGES]
    random.Random(1).shuffle(texts)
    return list(zip(texts, texts[1:] + texts[:1], strict=True))
