"""Whatever a step is told to read: every prompt is read once, and its answer is that of it alone.

For KV caches of different kinds: a window of keys and values, a running state, and a mixture.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from mlxdeck.server.backends.local.engine import row_groups
from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Prefilled,
    Read,
    Sampled,
    SamplingParams,
    SequenceSpec,
)
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from tests.server.backends.local.engine.test_kv_blocks import with_few_words

pytestmark = pytest.mark.model

KINDS = ("gemma3", "mamba2", "lfm2")
LENGTHS = (300, 1, 7, 40, 41, 90, 200, 2)
BOUNDARIES = (70, 150)
N_ANSWER = 6


@pytest.fixture(scope="module", params=KINDS)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlxEngine]:
    """A tiny model of a family."""
    engine = with_few_words(tmp_path_factory.mktemp(request.param), request.param)
    yield engine
    engine.close()


def prompts(seed: int) -> list[list[int]]:
    """Prompts of many lengths."""
    chance = random.Random(seed)
    return [[chance.randrange(5, 300) for _ in range(n)] for n in LENGTHS]


def spec(tokens: list[int], known: KVState | None = None) -> SequenceSpec:
    """A greedy answer to a prompt, some of which may be known."""
    n_known, state = (len(known.tokens), known.state) if known else (0, None)
    boundaries = tuple(n for n in BOUNDARIES if n_known < n < len(tokens))
    return SequenceSpec(tokens, n_known, state, N_ANSWER, SamplingParams(), boundaries)


def step(
    engine: MlxEngine, reads: list[Read] | None, left: dict[int, int], drawn: dict[int, list[int]]
) -> list[KVState]:
    """One step; takes down what is left of the prompts and what was drawn."""
    kept = []
    for each in engine.step(reads):
        if isinstance(each, Prefilled):
            assert left[each.uid] - (each.total_tokens - each.done_tokens) >= 0
            left[each.uid] = each.total_tokens - each.done_tokens
        elif each.finish is None:
            drawn[each.uid].append(each.token)
        else:
            drawn[each.uid].append(-1)
        if isinstance(each, Sampled) or each.kept is None:
            continue
        kept.append(each.kept)
    return kept


def alone(engine: MlxEngine, tokens: list[int]) -> list[int]:
    """What is drawn if nobody else is there, and the prompt is read in one pass."""
    engine.reset()
    uid = engine.insert(spec(tokens))
    left, drawn = {uid: len(tokens)}, {uid: list[int]()}
    while -1 not in drawn[uid]:
        step(engine, [Read((uid,), 10_000)], left, drawn)
    return drawn[uid]


@pytest.mark.parametrize("seed", [1])
def test_the_answer_does_not_depend_on_how_prompts_are_read(engine: MlxEngine, seed: int) -> None:
    """Several in a pass, parts of any size, beside others, from a state in the middle."""
    asked = prompts(seed)
    expected = [alone(engine, tokens) for tokens in asked]
    assert len({*map(tuple, expected)}) > len(asked) // 2
    engine.reset()
    chance = random.Random(seed)
    uids = [engine.insert(spec(tokens)) for tokens in asked]
    left = {uid: len(tokens) for uid, tokens in zip(uids, asked, strict=True)}
    drawn = {uid: list[int]() for uid in uids}
    states = []
    while any(-1 not in each for each in drawn.values()):
        fresh = [uid for uid in uids if left[uid] == len(asked[uids.index(uid)])]
        begun = [uid for uid in uids if left[uid] and uid not in fresh]
        reads = [Read((uid,), chance.randrange(1, 60)) for uid in begun[:1]]
        if fresh and chance.random() < 0.5:
            some = chance.sample(fresh, chance.randrange(1, len(fresh) + 1))
            reads.append(Read(tuple(some), chance.randrange(1, 120)))
        states += step(engine, reads, left, drawn)
    assert not any(left.values())
    assert [drawn[uid] for uid in uids] == expected
    for state in states:
        (tokens,) = (each for each in asked if each[: len(state.tokens)] == list(state.tokens))
        uid = engine.insert(spec(tokens, state))
        left[uid], drawn[uid] = len(tokens) - len(state.tokens), []
        while -1 not in drawn[uid]:
            step(engine, None, left, drawn)
        assert drawn[uid] == expected[asked.index(tokens)]


def test_what_differs_much_in_length_is_not_padded(
    engine: MlxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long one and short ones are written in batches of their own; each can be removed."""
    monkeypatch.setattr(row_groups, "PADDING_TOKENS", 100)
    long = (prompts(seed)[0] for seed in range(20))
    # Its answer has to last until the others are read.
    asked = [next(each for each in long if len(alone(engine, each)) > 3)]
    asked += [tokens for tokens in prompts(6) if len(tokens) in (7, 40, 41)]
    expected = [alone(engine, tokens) for tokens in asked]
    engine.reset()
    uids = [engine.insert(spec(tokens)) for tokens in asked]
    left, drawn = dict.fromkeys(uids, 1_000), {uid: list[int]() for uid in uids}
    while left[uids[0]]:
        step(engine, [Read((uids[0],), 300)], left, drawn)
    step(engine, [Read(tuple(uids[1:]), 300)], left, drawn)
    assert [group.uids for group in engine._batch.groups] == [uids[:1], uids[1:]]
    kept = engine.remove(uids[2])
    assert kept is not None and list(kept.tokens) == asked[2]
    while any(-1 not in drawn[uid] for uid in uids if uid != uids[2]):
        step(engine, [], left, drawn)
    assert [drawn[uids[n]] for n in (0, 1, 3)] == [expected[n] for n in (0, 1, 3)]
    assert not engine._batch.groups


def test_what_leaves_in_the_middle_of_its_prompt_leaves_its_part(engine: MlxEngine) -> None:
    """Nothing is left of what was not read; the others go on."""
    first, second, third = prompts(3)[:1] + prompts(4)[:1] + prompts(5)[-2:-1]
    expected = alone(engine, second)
    engine.reset()
    uids = [engine.insert(spec(each)) for each in (first, second, third)]
    left, drawn = dict.fromkeys(uids, 1_000), {uid: list[int]() for uid in uids}
    step(engine, [Read(tuple(uids[:2]), 33)], left, drawn)
    kept = engine.remove(uids[0])
    assert kept is not None and list(kept.tokens) == first[:33]
    assert engine.remove(uids[2]) is None
    while -1 not in drawn[uids[1]]:
        step(engine, None, left, drawn)
    assert drawn[uids[1]] == expected
    assert engine.step() == []
