"""Drafts of what stands before, and when they are tried: pure arithmetic."""

from __future__ import annotations

import importlib
import math
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mlxdeck.server.backends.local.engine.models.loader import resolve
from mlxdeck.server.backends.local.engine.speculation.payoff import (
    Acceptance,
    Draft,
    PassCosts,
    Payoff,
)
from mlxdeck.server.backends.local.engine.speculation.prompt_lookup import (
    MAX_MATCH,
    MIN_MATCH,
    PromptLookup,
)
from tests.real import models_home

MOST_CALLS = 8
"""Of Python and numpy, for a token."""
TOKENS = st.lists(st.integers(0, 3), max_size=60)


def longest(tokens: list[int]) -> tuple[int, int]:
    """The longest earlier match of the end, and the place behind it: of several the last."""
    best = (0, -1)
    for at in range(1, len(tokens)):
        n = 0
        while n < at and tokens[at - 1 - n] == tokens[-1 - n]:
            n += 1
        best = max(best, (min(n, MAX_MATCH), at))
    return best


@given(TOKENS, TOKENS)
def test_the_longest_match_wins(prompt: list[int], answer: list[int]) -> None:
    """At every token, as found by comparing every place; its continuation is the draft."""
    lookup = PromptLookup(prompt)
    lookup.index()
    for n in range(len(answer) + 1):
        tokens = prompt + answer[:n]
        length, _ = longest(tokens)
        assert lookup.length == (length if length >= 2 else 0)
        draft = lookup.draft(5)
        assert bool(draft) == (length >= MIN_MATCH)
        if draft:
            ends = [
                at
                for at in range(length, len(tokens))
                if tokens[at - length : at] == tokens[-length:]
            ]
            assert draft in [tokens[at : at + 5] for at in ends]
        if n < len(answer):
            lookup.feed(answer[n])


def test_tokens_fed_before_the_index_are_in_it() -> None:
    """It may be built late; the tokens of an answer lengthen it without end."""
    late, early = PromptLookup([1, 2, 3, 4]), PromptLookup([1, 2, 3, 4])
    early.index()
    chance = random.Random(1)
    for n in range(3_000):
        token = chance.randrange(40)
        late.feed(token)
        early.feed(token)
        if n == 10:
            late.index()
    assert late.draft(9) == early.draft(9)
    for token in (1, 2, 3):
        late.feed(token)
    assert late.draft(1) == [4]


def test_a_draft_has_to_pay_for_every_row() -> None:
    """Where a pass costs no more for more tokens, all is tried; with load, and where not, less."""
    sure = [Draft(15, 0.95)]
    assert Payoff(PassCosts(0.0)).width(sure, 16) == 16
    metal, cpu = Payoff(PassCosts(0.02)), Payoff(PassCosts(0.2))
    widths = [cpu.width(sure, n_rows) for n_rows in (1, 2, 4, 8)]
    assert widths[0] >= 6 and widths == sorted(widths, reverse=True) and widths[-1] == 1
    assert metal.width(sure, 4) > 1
    assert cpu.width([Draft(15, 0.15)], 1) == 1
    assert cpu.width([], 1) == 1
    assert not cpu.pays(0.15, 1) and cpu.pays(0.9, 1)


def test_the_cost_of_a_pass_is_measured() -> None:
    """Times of passes replace the guess, also for shapes that were not tried."""
    costs = PassCosts(0.0)
    for _ in range(9):
        costs.note(1, 1, 0.1)
        costs.note(1, 8, 0.25)
    assert costs.ratio(1, 8) == pytest.approx(2.5)
    assert 1.5 < costs.ratio(1, 4) < 2.0
    assert costs.ratio(2, 8) > costs.ratio(1, 8)
    costs.note(1, 16, 60.0)  # One that was held up.
    assert costs.ratio(1, 4) < 2.0


def test_what_is_rejected_is_not_tried_again_for_long() -> None:
    """By kind of match, for its sequence; a new sequence begins with what others have shown."""
    everyone = Acceptance()
    one = Acceptance(everyone)
    before = one.share(3), one.share(40)
    for _ in range(20):
        one.note(3, 4, 0)
        one.note(40, 8, 8)
    assert one.share(3) < 0.1 < before[0]
    assert one.share(40) > before[1]
    assert before[0] > Acceptance(everyone).share(3) > one.share(3)
    assert Draft(9, 1.0).gain(16) == pytest.approx(math.log(10))


@pytest.mark.model
def test_a_file_that_is_written_again_takes_a_quarter_of_the_passes() -> None:
    """On the corpora's edits, whatever a longer pass costs; and no pass more where nothing is."""
    drafted = importlib.import_module("tests.bench.drafted")
    folder = resolve("smollm2", models_home(), lambda _: None).path
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    edits, passages = drafted.rewrites(encode, 20), drafted.strangers(encode)
    for share in drafted.COSTS.values():
        found = drafted.count(edits, Payoff(PassCosts(share)))
        assert found.tokens_a_pass >= 4
        assert found.n_tokens == found.n_passes + found.n_accepted
        beside = drafted.count(passages, Payoff(PassCosts(share)))
        assert beside.n_passes <= beside.n_tokens
        assert beside.n_drafted - beside.n_accepted <= beside.n_tokens / 8


def test_a_token_that_repeats_nothing_costs_few_calls() -> None:
    """Whatever the prompt's length: it is looked up once, and nothing is compared."""
    for n_prompt in (10, 20_000):
        lookup = PromptLookup(range(n_prompt))
        lookup.index()
        lookup.feed(n_prompt)
        n_calls = 0

        def count(frame: object, event: str, told: object) -> None:
            nonlocal n_calls
            n_calls += event in ("call", "c_call")

        sys.setprofile(count)
        for token in range(n_prompt + 1, n_prompt + 101):
            lookup.feed(token)
        sys.setprofile(None)
        # The last one ends the count.
        assert lookup.length == 0 and n_calls - 1 <= 100 * MOST_CALLS
