"""States of a model, copied, cut, stored and restored: they say what a cold run says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
    load_prompt_cache,
)

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Prefilled,
    SamplingParams,
    SequenceSpec,
    StateDamaged,
)
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.kv_states import MlxStates, always_trimmable
from mlxdeck.server.errors import EngineFailed
from tests.real import models_home
from tests.server.backends.local.engine.test_mlx import STORY, finish

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
def test_a_restored_state_says_what_a_cold_run_says(
    engine: MlxEngine, n: int, tmp_path: Path
) -> None:
    """Greedy, from every boundary of short and long prompts, straight from the file."""
    tokens = prompt(engine, n)
    n = len(tokens)
    boundary = n - len(engine.tokenizer.encode(STORY)) or n // 2
    asked = SequenceSpec(tokens, 0, None, N_TOKENS, SamplingParams(), (boundary,))
    cold, kept = snapshots(engine, asked)
    states = engine.states
    if engine._trimmable:
        (whole,) = kept.values()
        surplus = len(whole.tokens) - boundary
        kept = {boundary: KVState(tokens[:boundary], states.shrink(whole.state, surplus))}
        assert states.size_bytes(kept[boundary].state) < states.size_bytes(whole.state)
    elif boundary >= 64:
        assert boundary in kept
    for length, state in kept.items():
        if length >= n:
            continue
        path = tmp_path / f"{length}.safetensors"
        states.save(state.state, path)
        restored = states.restore(states.read(path))
        assert states.size_bytes(restored) == states.size_bytes(state.state)
        warm, _ = snapshots(
            engine, SequenceSpec(tokens, length, restored, N_TOKENS, SamplingParams())
        )
        assert warm == cold


def test_what_is_no_state_is_refused(engine: MlxEngine, tmp_path: Path) -> None:
    """Garbage, half a file, arrays of something else."""
    garbage, half, other = (tmp_path / f"{name}.safetensors" for name in ("g", "h", "o"))
    garbage.write_bytes(b"garbage")
    mx.save_safetensors(str(other), {"a": mx.zeros(3)})
    half.write_bytes(other.read_bytes()[:20])
    for path in (garbage, half, other, tmp_path / "missing.safetensors"):
        with pytest.raises(StateDamaged, match="holds no state"):
            engine.states.restore(engine.states.read(path))
    with pytest.raises(EngineFailed, match="cannot write"):
        engine.states.save([KVCache()], tmp_path / "no" / "folder.safetensors")


def test_only_plain_caches_can_always_be_cut() -> None:
    """A rotating one can until it is full, a recurrent one never: neither can be relied on."""
    assert always_trimmable([KVCache(), CacheList(KVCache(), KVCache())])
    assert not always_trimmable([KVCache(), RotatingKVCache(8)])
    assert not always_trimmable([KVCache(), ArraysCache(2)])
    assert not always_trimmable([CacheList(KVCache(), RotatingKVCache(8))])


def test_a_copy_leaves_its_original_alone() -> None:
    """Memory is shared, but what is written to one is not seen in the other."""
    cache = KVCache()
    cache.update_and_fetch(mx.ones((1, 1, 4, 2)), mx.ones((1, 1, 4, 2)))
    (copied,) = MlxStates().copy([cache], 2)
    copied.update_and_fetch(mx.zeros((1, 1, 2, 2)), mx.zeros((1, 1, 2, 2)))
    assert (cache.offset, copied.offset) == (4, 4)
    assert mx.all(cache.keys_and_values()[0] == 1).item()
    assert not mx.all(copied.keys_and_values()[0] == 1).item()


def caches() -> list[Any]:
    """One cache of each kind that models have, with something in it."""
    numbers = mx.random.normal((1, 2, 6, 64)).astype(mx.bfloat16)
    made = [KVCache(), RotatingKVCache(4), QuantizedKVCache(), KVCache(), RotatingKVCache(8)]
    for each in made:
        each.update_and_fetch(numbers, numbers)
    recurrent = ArraysCache(3)
    recurrent[0], recurrent[1] = numbers.astype(mx.float16), numbers.astype(mx.float32)
    return [*made[:3], CacheList(*made[3:]), recurrent]


def test_files_are_read_as_mlx_lm_reads_them(tmp_path: Path) -> None:
    """Every kind of cache, in every type that models compute in."""
    path = tmp_path / "state.safetensors"
    states = MlxStates()
    states.save(caches(), path)
    theirs, ours = load_prompt_cache(str(path)), states.restore(states.read(path))
    assert [type(each) for each in ours] == [type(each) for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        found, wanted = tree_flatten(one.state), tree_flatten(other.state)
        assert [name for name, _ in found] == [name for name, _ in wanted]
        for (_, a), (_, b) in zip(found, wanted, strict=True):
            if isinstance(b, mx.array):
                assert a.dtype == b.dtype and mx.array_equal(a, b).item()
            else:
                assert a == b
