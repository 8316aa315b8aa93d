"""States in 8 bits, for every kind of cache: what they take, and how they run beside exact ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mlx.core as mx
import pytest

from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.kv_precision import EightBits
from mlxdeck.server.backends.local.engine.mlx.kv_states import KVBlock
from mlxdeck.server.backends.local.engine.mlx.leased_kv import LeasedKV
from mlxdeck.server.backends.local.kv import cooling
from mlxdeck.server.backends.local.kv.blocks import BlockTree, TokenBlock
from mlxdeck.server.backends.local.kv.cooling import Cooling
from mlxdeck.server.backends.local.kv.integrity import check_integrity
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from tests.server.backends.local.engine.test_kv_blocks import (
    BLOCK_TOKENS,
    cold,
    leased,
    prompt,
    run,
    spec,
    with_few_words,
)

pytestmark = pytest.mark.model

OF_64, OF_32 = (1 + 8 / 64) / 4, (1 + 8 / 32) / 4
"""Of four bytes a number: one, and two of four bytes each for a group."""
KINDS: Mapping[str, tuple[dict[str, Any], float | None]] = {
    "llama_plain": ({"head_dim": 64}, OF_64),
    "deepseek_v3": ({"kv_lora_rank": 32, "qk_rope_head_dim": 32}, OF_32),
    "gpt_oss": ({"head_dim": 96}, OF_32),
    "falcon_h1": ({"head_dim": 64}, OF_64),
    "mamba2": ({}, None),
}
"""What they are told so that heads are of a usual size, and what is left of the bytes of a block;
None where there are no keys and values."""


@pytest.fixture(scope="module", params=KINDS)
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MlxEngine, float | None]]:
    """A tiny model of a family, and what is left of its blocks."""
    config, share = KINDS[request.param]
    engine = with_few_words(tmp_path_factory.mktemp(request.param), request.param, **config)
    yield engine, share
    engine.close()


@pytest.fixture
def cache(kind: tuple[MlxEngine, float | None], monkeypatch: pytest.MonkeyPatch) -> PrefixCache:
    """Short blocks, that are quiet at once."""
    monkeypatch.setattr(cooling, "QUIET_S", 0.0)
    return PrefixCache(kind[0].states, 1 << 30, tree=BlockTree(block_tokens=BLOCK_TOKENS))


def quantize(engine: MlxEngine, cache: PrefixCache) -> int:
    """All that is due; return how many blocks were quantised."""
    made = Cooling(cache.tree, cache.leases, engine.states)
    due = made.due()
    while due:
        due = made.quantize(due)
    return made.n_quantized


def full_blocks(cache: PrefixCache) -> list[TokenBlock]:
    """Those that have all their tokens."""
    whole = 4 * BLOCK_TOKENS
    return [block for block in cache.tree.blocks() if len(block.tokens) == whole]


def parts(data: KVBlock) -> list[Any]:
    """Keys and values of all layers."""
    return [each for layer in data.layers for each in (layer.keys, layer.values)]


def test_a_token_takes_a_third_and_checkpoints_stay_exact(
    kind: tuple[MlxEngine, float | None], cache: PrefixCache
) -> None:
    """Bytes of blocks in 8 bits, by the size of heads; of nothing else."""
    engine, share = kind
    leased(engine, cache, prompt(1, 150))
    before = {id(block): (block.data, block.n_bytes) for block in full_blocks(cache)}
    other_bytes = cache.n_bytes - sum(n_bytes for _, n_bytes in before.values())
    assert quantize(engine, cache) == (len(before) if share else 0)
    assert quantize(engine, cache) == 0
    for block in full_blocks(cache):
        exact, n_bytes = before[id(block)]
        assert block.n_bytes == n_bytes * (share or 1)
        assert engine.states.size_bytes(block.data) == block.n_bytes
        for old, new in zip(parts(exact), parts(block.data), strict=True):
            if share:
                assert isinstance(new, EightBits)
                step = (mx.max(old) - mx.min(old)) / 255
                assert mx.all(mx.abs(new.read() - old) <= step).item()
            else:
                assert new is old
    assert cache.tree.n_quantized_bytes == cache.n_bytes - other_bytes if share else True
    assert all(c.data.layers for block in full_blocks(cache) for c in block.checkpoints.values())


def test_turns_go_on_from_both_kinds_of_blocks(
    kind: tuple[MlxEngine, float | None], cache: PrefixCache
) -> None:
    """No token is lost, what is new lies exact, and what is quantised already is not made anew."""
    engine, share = kind
    said, _ = leased(engine, cache, prompt(1, 100))
    for n in range(3):
        old = {block.key: block.data for block in full_blocks(cache) if block.is_quantized}
        quantize(engine, cache)
        now = {block.key: block.data for block in full_blocks(cache)}
        assert all(now[key] is data for key, data in old.items())
        known = len(said)
        said, n_cached = leased(engine, cache, [*said, *prompt(10 + n, 40)])
        assert n_cached == known
        kinds = {block.is_quantized for block in full_blocks(cache)}
        assert kinds == ({True, False} if share else {False})
    assert len(said) > 220
    assert not check_integrity(cache.tree, cache.leases)


def test_what_is_beside_it_in_a_batch_is_not_changed(
    kind: tuple[MlxEngine, float | None], cache: PrefixCache
) -> None:
    """A row from 8 bits, one from exact blocks and one from nothing: the latter two as ever."""
    engine, _ = kind
    first, second, fresh = prompt(1, 130), prompt(2, 100), prompt(3, 33)
    leased(engine, cache, first)
    quantize(engine, cache)
    leased(engine, cache, second)
    asked = [[*first, *prompt(9, 5)], [*second, *prompt(9, 5)]]
    leases = [cache.lease(tokens) for tokens in asked]
    copied = LeasedKV.copied_bytes
    specs = [spec(tokens, each, ()) for tokens, each in zip(asked, leases, strict=True)]
    drawn = run(engine, *specs, spec(fresh, None, ()))
    assert all(each.n_cached >= 96 for each in leases)
    assert drawn[1:] == [cold(engine, asked[1]), cold(engine, fresh)]
    assert drawn[0][: len(asked[0])] == asked[0]
    if engine._is_cuttable:
        # What is written into the batch is of the model's own type, each token of a lease once.
        exact = next(block for block in full_blocks(cache) if not block.is_quantized)
        n_tokens = sum(each.n_cached for each in leases)
        assert LeasedKV.copied_bytes - copied == n_tokens * exact.n_bytes // BLOCK_TOKENS


def test_they_go_to_bytes_and_back_and_can_be_cut(
    kind: tuple[MlxEngine, float | None], cache: PrefixCache
) -> None:
    """With the same numbers, and in 8 bits again: nothing is quantised anew."""
    engine, share = kind
    states = engine.states
    leased(engine, cache, prompt(1, 100))
    quantize(engine, cache)
    for block in full_blocks(cache):
        packed = states.pack(block.data)
        data = b"".join(bytes(each) for each in packed.buffers)
        assert len(data) == block.n_bytes
        again = states.restore(packed.about, data)
        short = states.cut(block.data, 5)
        assert states.is_quantized(again) is states.is_quantized(short) is bool(share)
        assert short.n_tokens == 5
        for one, other, cut in zip(parts(block.data), parts(again), parts(short), strict=True):
            if share:
                for a, b in zip(one.arrays, other.arrays, strict=True):
                    assert mx.array_equal(a, b).item()
                assert mx.array_equal(cut.read(), one.read()[..., :5, :]).item()
            else:
                assert mx.array_equal(one, other).item()
        assert states.quantized(again) is None


@pytest.mark.parametrize("kind", ["llama_plain", "deepseek_v3"], indirect=True)
def test_a_lease_of_8_bits_reads_what_was_quantised(
    kind: tuple[MlxEngine, float | None], cache: PrefixCache
) -> None:
    """The rows of a batch are the blocks as they were read, the tail exact."""
    engine, _ = kind
    leased(engine, cache, prompt(1, 80))
    assert quantize(engine, cache) == 2
    lease = cache.lease(prompt(1, 80))
    assert lease.block is not None
    blocks = [block.data for block in lease.block.path()]
    for n, layer in enumerate(_flat(lease.state)):
        expected = mx.concatenate([each.layers[n].read()[0] for each in blocks], axis=2)
        merged = type(layer).merge([layer])
        assert mx.array_equal(merged.keys[..., : lease.n_cached, :], expected[..., :79, :]).item()
    lease.release()


def _flat(state: Any) -> Iterator[Any]:
    for each in state:
        yield from getattr(each, "caches", [each])
