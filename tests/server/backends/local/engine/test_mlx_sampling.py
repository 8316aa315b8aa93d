"""How tokens are drawn: penalties over a small vocabulary, seeds on real engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.api import (
    Constraint,
    Sampled,
    SamplingParams,
    SequenceSpec,
)
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.sampling import Penalties, penalties, sampler
from tests.real import models_home

VOCABULARY = 6
HOT = SamplingParams(temperature=1.0)


def drawn(processor: Penalties, logits: list[float], answer: list[int]) -> list[float]:
    """The logits behind an answer to a prompt of all tokens, one step after the other."""
    prompt = list(range(VOCABULARY))
    for n in range(len(answer) + 1):
        changed = processor(mx.array(prompt + answer[:n]), mx.array([logits]))
    return [round(value, 4) for value in changed[0].tolist()]  # type: ignore[arg-type, union-attr]


def token(drawn_: mx.array) -> int:
    """The one token of a draw."""
    found = drawn_.item()
    assert isinstance(found, int)
    return found


@given(
    st.lists(st.floats(-5, 5, width=16), min_size=VOCABULARY, max_size=VOCABULARY),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=8),
    st.floats(-2, 2, width=16),
    st.floats(-2, 2, width=16),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.dictionaries(st.integers(0, VOCABULARY + 3), st.floats(-100, 100, width=16), max_size=3),
)
def test_penalties_are_openais_formula_over_the_answer(
    logits: list[float],
    answer: list[int],
    presence: float,
    frequency: float,
    repetition: float,
    bias: dict[int, float],
) -> None:
    """What the prompt holds costs nothing; a bias for a token that the model lacks is none."""
    params = SamplingParams(
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
        logit_bias=tuple(sorted(bias.items())),
    )
    expected = []
    for token, logit in enumerate(logits):
        n = answer.count(token)
        if n:
            logit = logit * repetition if logit < 0 else logit / repetition
        expected.append(logit - n * frequency - (n > 0) * presence + bias.get(token, 0))
    found = drawn(Penalties(params), logits, answer)
    assert found == pytest.approx(expected, abs=1e-3)


def test_who_asks_for_no_penalty_pays_for_none() -> None:
    """Temperatures and seeds alone need no processor, and share a sampler where they can."""
    assert penalties(SamplingParams(0.5, 0.5, 5, 0.5, seed=3)) is None
    assert sampler(HOT) is sampler(replace(HOT, presence_penalty=1.0))
    assert sampler(HOT) is not sampler(replace(HOT, top_p=0.5))
    assert sampler(SamplingParams(seed=1)) is sampler(SamplingParams(seed=2))


@pytest.mark.parametrize(
    ("params", "possible"),
    [
        (HOT, {0, 1, 2, 3, 4}),
        (replace(HOT, top_k=2), {3, 4}),
        (replace(HOT, top_k=10_000), {0, 1, 2, 3, 4}),
        (replace(HOT, top_p=0.6), {3, 4}),
        (replace(HOT, top_p=0.0), {4}),
        (replace(HOT, top_p=1e-300), {4}),
        (replace(HOT, min_p=0.3), {2, 3, 4}),
        (replace(HOT, temperature=1e-7), {4}),
        (replace(HOT, temperature=1e-4), {4}),
    ],
)
@pytest.mark.parametrize("seed", [None, 3])
def test_filters_leave_what_they_say(
    params: SamplingParams, possible: set[int], seed: int | None
) -> None:
    """Also where the client asks for more than there is, and in half precision."""
    draw = sampler(replace(params, seed=seed))
    odds = mx.log(mx.array([[0.05, 0.1, 0.15, 0.3, 0.4, 0.0]])).astype(mx.float16)
    assert {token(draw(odds)) for _ in range(200)} == possible


def test_a_seed_draws_from_numbers_of_its_own() -> None:
    """The same again whatever others draw meanwhile, another with another seed, odds kept."""
    odds = mx.log(mx.array([[0.5, 0.25, 0.25]]))

    def draws(seed: int, *, others: bool) -> list[int]:
        draw, shared = sampler(replace(HOT, seed=seed)), sampler(HOT)
        found = []
        for _ in range(100):
            found.append(token(draw(odds)))
            if others:
                shared(odds)
        return found

    assert draws(1, others=False) == draws(1, others=True) != draws(2, others=False)
    assert draws(-1, others=False) == draws((1 << 64) - 1, others=False)
    assert 30 < draws(1, others=False).count(0) < 70


@pytest.fixture(scope="module")
def engine(small_model: str) -> Iterator[MlxEngine]:
    """A small model, loaded once."""
    engine = MlxEngine(small_model, models_home(), prefill_chunk_tokens=512)
    engine.load(lambda _: None)
    yield engine
    engine.close()


def tokens(engine: MlxEngine, *asked: SamplingParams, held: str = "", n: int = 12) -> list[str]:
    """What each says to the same prompt, run together."""
    engine.reset()
    prompt = engine.tokenizer.encode("Once upon a time")
    constraint = Constraint(held) if held else None
    uids = [engine.insert(SequenceSpec(prompt, 0, None, n, each, (), constraint)) for each in asked]
    texts = dict.fromkeys(uids, "")
    n_running = len(uids)
    while n_running:
        for step in engine.step():
            if isinstance(step, Sampled):
                texts[step.uid] += step.text
                n_running -= step.finish is not None
    return list(texts.values())


@pytest.mark.model
def test_the_same_seed_says_the_same(engine: MlxEngine) -> None:
    """Alone and among others, which neither change it nor are changed by it."""
    seeded = replace(HOT, seed=7, top_p=0.9)
    (alone,), (again,) = tokens(engine, seeded), tokens(engine, seeded)
    (another,) = tokens(engine, replace(seeded, seed=8))
    assert alone == again != another
    among = tokens(engine, HOT, seeded, SamplingParams(), replace(seeded, seed=8))
    assert among[1] == alone and among[3] == another
    assert among[2] == tokens(engine, SamplingParams())[0]


@pytest.mark.model
def test_a_bias_decides_and_a_grammar_has_the_last_word(engine: MlxEngine) -> None:
    """A token that is forced is all there is, unless the grammar leaves no room for it."""
    (star,) = engine.tokenizer.encode("*")
    forced = SamplingParams(logit_bias=((star, 100.0),))
    (said,) = tokens(engine, forced, n=5)
    assert said == "*****"
    penalised = replace(forced, frequency_penalty=2.0, presence_penalty=2.0, temperature=1.0)
    (held,) = tokens(engine, penalised, held='start: "ab" /[0-9]{3}/')
    assert held[:2] == "ab" and held[2:].isdigit() and len(held) == 5


@pytest.mark.model
def test_a_frequency_penalty_breaks_a_loop(engine: MlxEngine) -> None:
    """Greedy drawing repeats itself; taking off what was said is enough to stop that."""
    plain, penalised = tokens(engine, SamplingParams(), SamplingParams(frequency_penalty=2.0), n=40)
    kinds = [len(set(engine.tokenizer.encode(text))) for text in (plain, penalised)]
    assert kinds[1] > kinds[0]
