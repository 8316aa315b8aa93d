"""What a KV cache is reckoned to take is what it takes, whatever its layers keep."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import Read, Sampled, SamplingParams, SequenceSpec
from mlxdeck.server.backends.local.engine.kv_cost import STEP_TOKENS, KVCost, LayerCost
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from tests.server.backends.local.engine.test_kv_blocks import with_few_words

pytestmark = pytest.mark.model

KINDS = ("gemma3", "mamba2", "lfm2", "deepseek_v3")
"""A window and everything, a running state, that and everything, and a compressed latent."""
CHUNK = 64
PASSES = (CHUNK, CHUNK, 7, CHUNK, 1, 200)


@pytest.fixture(scope="module", params=KINDS)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MlxEngine, KVCost]]:
    """A tiny model of a family, and the cost of its sequences."""
    engine = with_few_words(tmp_path_factory.mktemp(request.param), request.param)
    cost = engine.load(lambda _: None).kv_cost  # Told by each load.
    yield engine, cost
    engine.close()


def held_bytes(engine: Any) -> int:
    """Of all caches that the engine holds."""
    batch = engine._batch
    caches = [each.batch.prompt_cache for each in batch.prompts.values() if each.batch]
    caches += [group.prompt_cache for group in batch.groups]
    return sum(int(layer.nbytes) for layers in caches for layer in layers)


def test_no_sequence_takes_more_than_is_reckoned(engine: tuple[MlxEngine, KVCost]) -> None:
    """In each step of reading and writing; and not much less, once it is long."""
    model, cost = engine
    chance = random.Random(5)
    tokens = [chance.randrange(5, 300) for _ in range(900)]
    uid = model.insert(SequenceSpec(tokens, 0, None, 12, SamplingParams()))
    n_steps = n_drawn = 0
    most, is_over = 0, False
    while not is_over:
        found = model.step([Read((uid,), min(CHUNK, PASSES[n_steps % len(PASSES)]))])
        n_steps += 1
        n_drawn += sum(isinstance(each, Sampled) for each in found)
        is_over = any(isinstance(each, Sampled) and each.finish for each in found)
        n_read = max((each.done_tokens for each in found if not isinstance(each, Sampled)),
                     default=len(tokens))  # fmt: skip
        held = held_bytes(model)
        assert held <= cost.bytes_of(n_read + n_drawn)
        most = max(most, held)
    slack = sum(each.token_bytes for each in cost.layers) * (STEP_TOKENS + CHUNK)
    assert most >= cost.bytes_of(len(tokens) + n_drawn) - slack


def test_the_longest_sequence_that_fits_is_found() -> None:
    """By bytes that grow with each token, or with none."""
    cost = KVCost((LayerCost(8.0), LayerCost(8.0, most_tokens=100), LayerCost(fixed_bytes=50)))
    assert cost.bytes_of(0) == 0
    n_bytes = cost.bytes_of(777)
    assert cost.most_tokens(n_bytes, 10_000) == 777
    assert cost.most_tokens(n_bytes, 50) == 50
    assert cost.most_tokens(10, 10_000) == 0
    assert KVCost.of([*cost.layers, LayerCost(8.0)]).bytes_of(500) == (
        cost.bytes_of(500) + 8 * (500 + STEP_TOKENS)
    )
    assert KVCost((LayerCost(fixed_bytes=50),)).most_tokens(50, 9_000) == 9_000
