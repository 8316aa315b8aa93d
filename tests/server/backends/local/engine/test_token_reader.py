"""What a logits processor reads is what its own sequence has written, whoever joins and leaves."""

from __future__ import annotations

import random
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama
from mlx_lm.sample_utils import greedy_sampler

from mlxdeck.server.backends.local.engine.api import Read
from mlxdeck.server.backends.local.engine.mlx.batches import Batches, PromptRow
from mlxdeck.server.backends.local.engine.mlx.token_reader import TokenReader

N_VOCAB = 300


def model() -> Any:
    """Random weights: what is written hardly repeats."""
    mx.random.seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    fields = {"model_type": "llama", "vocab_size": N_VOCAB, "rms_norm_eps": 1e-6, **sizes, **heads}
    return llama.Model(llama.ModelArgs.from_dict(fields))


class Recording:
    """A processor that keeps what it reads, and makes every step's logits different."""

    def __init__(self) -> None:
        self.reader = TokenReader()
        self.read: list[int] = []

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """As mlx-lm calls it."""
        self.read += self.reader.new(tokens, logits)
        return logits + mx.random.normal(logits.shape) * 4


@pytest.mark.model
@pytest.mark.parametrize("seed", range(3))
def test_each_reads_its_own_sequence(seed: int) -> None:
    """Rows without a processor beside them, and two processors in one row."""
    chance = random.Random(seed)
    batches = Batches(model(), stop_tokens=(), max_kv_tokens=None)
    rows: dict[int, list[Recording]] = {}
    drawn: dict[int, list[int]] = {}
    for _ in range(40):
        if len(batches.prompts) + sum(len(each.uids) for each in batches.groups) < 5:
            made = [Recording() for _ in range(chance.randrange(3))]
            prompt = [chance.randrange(N_VOCAB) for _ in range(chance.randrange(1, 9))]
            n_tokens = chance.randrange(1, 15)
            row = PromptRow([prompt], n_tokens, None, [], greedy_sampler, tuple(made))
            rows[uid := batches.insert(row)] = made
            drawn[uid] = []
        reads = [Read((uid,), 100) for uid in batches.prompts if chance.random() < 0.5]
        for response in batches.step(reads)[1]:
            drawn[response.uid].append(response.token)
        if chance.random() < 0.1 and batches.groups:
            batches.remove(chance.choice(batches.groups[0].uids))
    assert sum(map(len, drawn.values())) > 60
    for uid, made in rows.items():
        for each in made:
            # Nothing is read of the token behind the last one that was returned.
            assert each.read == drawn[uid]


def test_without_a_batch_it_reads_the_tokens_themselves() -> None:
    """Several at once, too, and none where nothing has come."""
    reader, logits = TokenReader(), mx.zeros((1, 5))
    assert reader.new(mx.array([7, 8]), logits) == []
    assert reader.new(mx.array([7, 8, 9]), logits) == [9]
    assert reader.new(mx.array([7, 8, 9]), logits) == []
    assert reader.new(mx.array([7, 8, 9, 1, 2]), logits) == [1, 2]


def test_what_a_step_was_told_is_not_read_in_a_later_one() -> None:
    """Also where the first step reads nothing: the second may be a pass over drafts."""
    reader, logits = TokenReader(), mx.zeros((1, 5))
    reader.expect(mx.array([8]), 0)
    assert reader.new(mx.array([7, 8]), logits) == []
    assert reader.new(mx.array([7, 8, 9]), logits) == [9]
    reader.expect(mx.array([4]), 0)
    assert reader.new(mx.array([7, 8, 9, 4]), logits) == [4]
    assert reader.new(mx.array([7, 8, 9, 4, 3]), logits) == [3]
