"""An answer that lost its place goes on as if it had not, whatever follows its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.engine.api import (
    Constraint,
    KVState,
    Sampled,
    SamplingParams,
    SequenceSpec,
    State,
    ThinkingLimit,
)
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine

pytestmark = pytest.mark.model

N_TOKENS = 30
GREEDY = SamplingParams()
GRAMMAR = 'start: "{" /[a-z0-9]{300,400}/ "}"'
KINDS = {
    "greedy": SequenceSpec([], 0, None, N_TOKENS, GREEDY),
    "seeded": SequenceSpec([], 0, None, N_TOKENS, SamplingParams(1.0, seed=7)),
    "penalised": SequenceSpec(
        [], 0, None, N_TOKENS, SamplingParams(repetition_penalty=1.4, frequency_penalty=0.3)
    ),
    "held": SequenceSpec([], 0, None, N_TOKENS, GREEDY, constraint=Constraint(GRAMMAR)),
    "held behind thinking": SequenceSpec(
        [],
        0,
        None,
        N_TOKENS,
        GREEDY,
        constraint=Constraint(GRAMMAR, "</think>", thinking=(), in_thinking=False),
        thinking=ThinkingLimit("<think>", "</think>", True, 9),
    ),
}


@pytest.fixture(scope="module")
def engine(small_model: str) -> Iterator[MlxEngine]:
    """A small random model; each step draws one token, whatever would pay."""
    engine = MlxEngine(
        small_model,
        Path(small_model).parent,
        prefill_chunk_tokens=64,
        prompt_lookup=False,
        forced_spans=False,
    )
    engine.load(lambda _: None)
    yield engine
    engine.close()


def written(engine: MlxEngine, run: SequenceSpec, most: int = N_TOKENS) -> tuple[int, str, str]:
    """Let it write so many tokens at most; its uid, its text and why it ended, if it did."""
    uid, text, n = engine.insert(run), "", 0
    while n < most:
        for each in engine.step():
            if isinstance(each, Sampled):
                text, n = text + each.text, n + 1
                if each.finish:
                    return uid, text, each.finish
    return uid, text, ""


def leased(engine: MlxEngine, kept: KVState, n: int) -> State:
    """The state of its first tokens."""
    return engine.states.lease([engine.states.block(kept.state, 0, n)], n, None)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("n_before", [1, 21])
@pytest.mark.parametrize("knows", [True, False])
def test_an_answer_goes_on_where_it_lost_its_place(
    engine: MlxEngine, name: str, n_before: int, *, knows: bool
) -> None:
    """With the state of its tokens, or read anew: the same text, at the same length."""
    prompt = engine.tokenizer.encode("Once upon a time there was a small café with ünïcode " * 3)
    run = replace(KINDS[name], tokens=prompt)
    _, whole, reason = written(engine, run)
    uid, first, _ = written(engine, run, n_before)
    kept = engine.remove(uid)
    assert kept is not None and len(kept.tokens) == len(prompt) + n_before
    n_cached = len(kept.tokens) - 1 if knows else 0
    rest = replace(
        run,
        tokens=kept.tokens,
        n_cached=n_cached,
        state=leased(engine, kept, n_cached) if knows else None,
        max_tokens=N_TOKENS - n_before,
        n_written=n_before,
    )
    _, second, ended = written(engine, rest)
    assert (first + second, ended) == (whole, reason)
