"""States of a model, cut into parts, stored and restored: they say what a cold run says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import cache as caches
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
)

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Prefilled,
    SamplingParams,
    SequenceSpec,
    StateDamaged,
    StatePart,
)
from mlxdeck.server.backends.local.engine.mlx import kv_bytes
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.kv_states import MlxStates, always_cuttable
from tests.real import models_home
from tests.server.backends.local.engine.test_mlx import STORY, finish
from tests.zoo.families import FAMILIES

pytestmark = pytest.mark.model

WINDOW = 96
N_TOKENS = 20


@pytest.fixture(scope="module", params=[0, WINDOW], ids=["plain", "rotating"])
def engine(request: pytest.FixtureRequest, small_model: str) -> Iterator[MlxEngine]:
    """With all of the prompt in sight, and with a window that long prompts rotate."""
    engine = MlxEngine(
        small_model,
        models_home(),
        prefill_chunk_tokens=64,
        max_kv_tokens=request.param,
    )
    engine.load(lambda _: None)
    yield engine
    engine.close()


def prompt(engine: MlxEngine, n: int) -> list[int]:
    """A prompt of `n` tokens that ends in a question."""
    tail = engine.tokenizer.encode(STORY)
    filler = engine.tokenizer.encode("The ship sailed on over the grey and quiet water. " * 40)
    return filler[: max(0, n - len(tail))] + tail


def snapshots(engine: MlxEngine, run: SequenceSpec) -> tuple[str, dict[int, KVState]]:
    """Run to the end; the text, and the states that were kept, by their length."""
    uid = engine.insert(run)
    found: dict[int, KVState] = {}
    while True:
        steps = engine.step()
        for step in steps:
            if isinstance(step, Prefilled) and step.kept:
                found[len(step.kept.tokens)] = step.kept
        if any(not isinstance(step, Prefilled) for step in steps):
            break
    for step in steps:
        if not isinstance(step, Prefilled):
            first = step.text
    text, _, kept = finish(engine, uid)[uid]
    found[len(kept.tokens)] = kept
    return first + text, found


@pytest.mark.parametrize("n", [40, 150])
def test_a_restored_state_says_what_a_cold_run_says(engine: MlxEngine, n: int) -> None:
    """Greedy, from every boundary of short and long prompts, of bytes."""
    tokens = prompt(engine, n)
    n = len(tokens)
    boundary = n - len(engine.tokenizer.encode(STORY)) or n // 2
    asked = SequenceSpec(tokens, 0, None, N_TOKENS, SamplingParams(), (boundary,))
    cold, kept = snapshots(engine, asked)
    states = engine.states
    if engine._is_cuttable:
        (whole,) = kept.values()
        kept = {boundary: whole}
        block = states.block(whole.state, 0, boundary)
        assert states.size_bytes(block) == states.block_bytes(whole.state, 0, boundary)
    elif boundary >= 64:
        assert boundary in kept
    for length, state in kept.items():
        if length >= n:
            continue
        block = again(states, states.block(state.state, 0, length))
        checkpoint = None
        if not engine._is_cuttable:
            checkpoint = again(states, states.checkpoint(state.state))
            assert states.size_bytes(checkpoint) == states.checkpoint_bytes(state.state)
        leased = states.lease([block], length, checkpoint)
        warm, _ = snapshots(
            engine, SequenceSpec(tokens, length, leased, N_TOKENS, SamplingParams())
        )
        assert warm == cold


def test_a_state_is_kept_where_one_token_is_left() -> None:
    """As behind the last message of a template that ends it with a single token.

    What is told of its size before it is made is its size.
    """
    engine = MlxEngine(str(FAMILIES["mistral"].folder()), models_home(), prefill_chunk_tokens=64)
    engine.load(lambda _: None)
    tokens = prompt(engine, 150)
    end = len(tokens) - 1
    _, kept = snapshots(engine, SequenceSpec(tokens, 0, None, 8, SamplingParams(), (end,)))
    for state in (kept[end].state, kept[max(kept)].state):
        checkpoint = engine.states.checkpoint(state)
        assert engine.states.size_bytes(checkpoint) == engine.states.checkpoint_bytes(state) > 0
    engine.close()


def again(states: MlxStates, part: StatePart) -> StatePart:
    """A part that has been bytes."""
    packed = states.pack(part)
    made = states.restore(packed.about, b"".join(bytes(each) for each in packed.buffers))
    assert states.size_bytes(made) == states.size_bytes(part)
    return made


@pytest.mark.parametrize("about", ["", "[]", "{}", "7", '{"arrays": 1, "held": 2}'])
def test_what_is_no_state_is_refused(about: str) -> None:
    """Garbage, and what tells of something else."""
    with pytest.raises(StateDamaged, match="hold no state"):
        MlxStates().restore(about, b"garbage")


def test_only_caches_are_made() -> None:
    """Whatever else has a name in mlx-lm's module is none."""
    for name in ("KVCache", "RotatingKVCache", "CacheList"):
        assert issubclass(kv_bytes.cache_class(name), caches._BaseCache)
    for name in ("mx", "copy", "make_prompt_cache", "PromptTrie", "nothing", "__name__"):
        with pytest.raises(ValueError, match="no cache"):
            kv_bytes.cache_class(name)


def test_only_plain_caches_can_always_be_cut() -> None:
    """A rotating one can until it is full, a recurrent one never: neither can be relied on."""
    assert always_cuttable([KVCache(), CacheList(KVCache(), KVCache())])
    assert not always_cuttable([KVCache(), RotatingKVCache(8)])
    assert not always_cuttable([KVCache(), ArraysCache(2)])
    assert not always_cuttable([CacheList(KVCache(), RotatingKVCache(8))])


def test_a_block_leaves_its_original_alone() -> None:
    """What goes on being written is not seen in it."""
    cache = KVCache()
    cache.update_and_fetch(mx.ones((1, 1, 4, 2)), mx.ones((1, 1, 4, 2)))
    states = MlxStates()
    block = states.block([cache], 1, 3)
    cache.trim(2)
    cache.update_and_fetch(mx.zeros((1, 1, 2, 2)), mx.zeros((1, 1, 2, 2)))
    assert mx.all(block.layers[0].read()[0] == 1).item()
    (leased,) = states.lease([block, block], 3, None)
    assert leased.keys.shape == leased.values.shape == (1, 1, 3, 2)


def held_by(kind: Any) -> Any:
    """What a state of one layer is after a checkpoint, bytes, and back."""
    states = MlxStates()
    state = [KVCache(), kind]
    state[0].update_and_fetch(mx.zeros((1, 1, 6, 8)), mx.zeros((1, 1, 6, 8)))
    block, checkpoint = states.block(state, 0, 6), again(states, states.checkpoint(state))
    return states.lease([block], 6, checkpoint)[1]


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
def test_every_kind_of_layer_comes_back(dtype: mx.Dtype) -> None:
    """Windows that rotate, recurrent states, several in one layer, quantised ones, in any type."""
    numbers = mx.random.normal((1, 2, 6, 64)).astype(dtype)
    window, quantised, list_ = RotatingKVCache(4), QuantizedKVCache(), RotatingKVCache(8)
    for each in (window, quantised, list_):
        each.update_and_fetch(numbers, numbers)
    recurrent = ArraysCache(3)
    recurrent[0], recurrent[1] = numbers, numbers[:, :1]
    for kind in (window, quantised, list_, recurrent):
        found = held_by(kind)
        assert type(found) is type(kind)
        ours, theirs = tree_flatten(found.state), tree_flatten(kind.state)
        if kind is window:
            # Only what is still seen is kept.
            assert found.keys.shape[2] == 4 and found.offset == 6
            assert mx.array_equal(found.keys, kind.keys[..., -4:, :]).item()
            continue
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        for (_, a), (_, b) in zip(ours, theirs, strict=True):
            if isinstance(b, mx.array):
                assert a.dtype == b.dtype and mx.array_equal(a, b).item()
            else:
                assert a == b
