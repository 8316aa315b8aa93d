"""States in blocks, for every kind of cache: what is leased says what is computed fresh."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import WordLevel

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Prefilled,
    Sampled,
    SamplingParams,
    SequenceSpec,
    StateDamaged,
)
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.leased_kv import LeasedKV
from mlxdeck.server.backends.local.kv.blocks import BlockTree, in_ram
from mlxdeck.server.backends.local.kv.leases import Lease
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack
from tests.zoo.families import FAMILIES
from tests.zoo.models import TINY, write_weights

pytestmark = pytest.mark.model

KINDS = ("llama_plain", "deepseek_v3", "gpt_oss", "mamba2", "falcon_h1", "qwen3_next")
"""All keys and values, latent ones, windows, running states, both in one layer, and in turn."""
BLOCK_TOKENS = 32
N_ANSWER = 6
N_WORDS = 300


def with_few_words(folder: Path, name: str, **config: Any) -> MlxEngine:
    """A tiny model of a family, with words of its own: real vocabularies take long to read."""
    family = FAMILIES[name]
    told = {**TINY, "model_type": family.architecture, **family.config, **config}
    fields = {**told, "vocab_size": N_WORDS, "eos_token_id": 1}
    write_weights(folder, family.architecture, fields, seed=1)
    words = Tokenizer(WordLevel({f"w{n}": n for n in range(N_WORDS)}, unk_token="w0"))
    words.decoder = ByteLevel()
    words.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w1", "unk_token": "w0"}
    tokenizer = {**about, "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    engine = MlxEngine(str(folder), folder.parent, prefill_chunk_tokens=64)
    engine.load(lambda _: None)
    return engine


@pytest.fixture(scope="module", params=KINDS)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlxEngine]:
    """One of each kind."""
    engine = with_few_words(tmp_path_factory.mktemp(request.param), request.param)
    yield engine
    engine.close()


def cache_of(engine: MlxEngine) -> PrefixCache:
    """An empty one with short blocks."""
    return PrefixCache(engine.states, 1 << 30, tree=BlockTree(block_tokens=BLOCK_TOKENS))


def prompt(seed: int, n: int) -> list[int]:
    """Any tokens."""
    chance = random.Random(seed)
    return [chance.randrange(5, 300) for _ in range(n)]


def spec(tokens: list[int], lease: Lease | None, boundaries: tuple[int, ...]) -> SequenceSpec:
    """A greedy answer to a prompt, some of which may be leased."""
    n_cached, state = (lease.n_cached, lease.state) if lease else (0, None)
    return SequenceSpec(tokens, n_cached, state, N_ANSWER, SamplingParams(), boundaries)


def run(
    engine: MlxEngine,
    *asked: SequenceSpec,
    cache: PrefixCache | None = None,
) -> list[list[int]]:
    """What is drawn for each, all at once; what they leave behind is kept."""
    uids = [engine.insert(each) for each in asked]
    drawn: dict[int, list[int]] = {uid: [] for uid in uids}
    ended: set[int] = set()
    while len(ended) < len(uids):
        for step in engine.step():
            kept: KVState | None = step.kept
            if isinstance(step, Sampled):
                drawn[step.uid].append(step.token)
            if isinstance(step, Sampled) and step.finish:
                ended.add(step.uid)
                assert kept is not None
                drawn[step.uid] = list(kept.tokens)
            if kept is not None and cache is not None:
                cache.add(pack(kept.tokens), kept.state, 0)
            assert isinstance(step, Sampled | Prefilled)
    return [drawn[uid] for uid in uids]


def leased(engine: MlxEngine, cache: PrefixCache, tokens: list[int]) -> tuple[list[int], int]:
    """What is drawn from a lease, and how many tokens were leased; what is new is kept."""
    lease = cache.lease(tokens)
    (drawn,) = run(engine, spec(tokens, lease, (len(tokens) - 4,)), cache=cache)
    lease.release()
    return drawn, lease.n_cached


def cold(engine: MlxEngine, tokens: list[int]) -> list[int]:
    """What is drawn of nothing known."""
    (drawn,) = run(engine, spec(tokens, None, ()))
    return drawn


def test_turns_lose_no_token_and_say_the_same(engine: MlxEngine) -> None:
    """Each turn goes on from all of the one before, wherever that ended, and stores only its own.

    A conversation that parts in the middle of a block uses what both have.
    """
    cache = cache_of(engine)
    said, _ = leased(engine, cache, prompt(1, 100))
    known = [len(said)]
    for n, more in enumerate((1, 31, 32, 40)):
        asked = [*said, *prompt(10 + n, more)]
        said, n_cached = leased(engine, cache, asked)
        assert n_cached == known[-1]
        assert said == cold(engine, asked)
        known.append(len(said))
    assert cache.n_leases == 0
    assert cache.tree.n_bytes == sum(part.n_bytes for part in cache.tree.parts())
    apart = [*said[:150], *prompt(50, 20)]
    other, n_cached = leased(engine, cache, apart)
    assert other == cold(engine, apart)
    if engine._is_cuttable:
        assert n_cached == 150
    else:
        ends = {end for block in cache.tree.blocks() for end in block.checkpoints}
        assert n_cached == max(end for end in ends if end <= 150)


def test_several_leases_run_in_one_batch(engine: MlxEngine) -> None:
    """Of different lengths, beside one that knows nothing."""
    cache = cache_of(engine)
    asked = [prompt(n, 40 + 30 * n) for n in range(3)]
    for tokens in asked:
        leased(engine, cache, tokens)
    longer = [[*tokens, *prompt(9, 5)] for tokens in asked]
    leases = [cache.lease(tokens) for tokens in longer]
    specs = [spec(tokens, each, ()) for tokens, each in zip(longer, leases, strict=True)]
    fresh = prompt(77, 33)
    drawn = run(engine, *specs, spec(fresh, None, ()))
    ends = [len(tokens) if engine._is_cuttable else len(tokens) - 4 for tokens in asked]
    # What can't be cut back is kept where enough was read.
    expected = [end if engine._is_cuttable or end >= 64 else 0 for end in ends]
    assert [each.n_cached for each in leases] == expected
    assert drawn == [cold(engine, tokens) for tokens in (*longer, fresh)]


def test_a_lease_is_copied_once(engine: MlxEngine) -> None:
    """Its bytes are written into the batch, and not again as the prompt goes on."""
    cache = cache_of(engine)
    said, _ = leased(engine, cache, prompt(1, 150))
    asked = [*said[:-1], *prompt(2, 60)]
    lease = cache.lease(asked)
    assert lease.block is not None
    path = lease.block.path()
    whole = sum(part.n_bytes for part in path)
    before = LeasedKV.copied_bytes
    uid = engine.insert(spec(asked, lease, ()))
    engine.step()
    assert LeasedKV.copied_bytes - before <= whole
    row = engine._batch.prompts.get(uid)
    batches = [row.batch] if row is not None else list(engine._batch.groups)
    for batch in batches:
        assert batch is not None
        for each in batch.prompt_cache:
            for inner in getattr(each, "caches", [each]):
                if hasattr(inner, "_right_padding"):
                    assert inner.keys.shape[2] >= len(asked)
    engine.remove(uid)


def test_parts_go_to_bytes_and_back(engine: MlxEngine) -> None:
    """Blocks and checkpoints, in every type; anything else is refused."""
    cache, other = cache_of(engine), cache_of(engine)
    tokens = prompt(1, 90)
    leased(engine, cache, tokens)
    states = engine.states
    for part in list(cache.tree.parts())[::-1]:
        packed = states.pack(part.data)
        data = b"".join(bytes(each) for each in packed.buffers)
        again = states.restore(packed.about, data)
        assert states.size_bytes(again) == states.size_bytes(part.data) == part.n_bytes
        part.data = again
        for about, broken in ((packed.about, data + b"1"), ("[]", data), ("{}", data)):
            with pytest.raises(StateDamaged):
                states.restore(about, broken)
        if data:
            with pytest.raises(StateDamaged):
                states.restore(packed.about, data[:-1])
    asked = [*tokens, *prompt(2, 9)]
    said, n_cached = leased(engine, cache, asked)
    assert said == cold(engine, asked)
    assert n_cached == (len(tokens) if engine._is_cuttable else len(tokens) - 4)
    assert not list(other.tree.parts())


def test_blocks_own_their_memory(engine: MlxEngine) -> None:
    """When a batch is gone, what is kept of it takes no more than it says."""
    engine.reset()
    cache = cache_of(engine)
    before = mx.get_active_memory()
    # Answers of one batch, as long as a batch keeps them together.
    run(engine, *(spec(prompt(n, 130), None, ()) for n in range(4)), cache=cache)
    engine.reset()
    n_parts = sum(1 for _ in cache.tree.parts() if in_ram(_))
    n_arrays = n_parts * 40
    assert mx.get_active_memory() - before <= cache.n_bytes + n_arrays * 4096
