"""The most bytes that MLX ever holds in a step, against what was reckoned before it."""

from __future__ import annotations

import random
from importlib import import_module
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import greedy_sampler

from mlxdeck.server.backends.local.engine.api import KVState, Read
from mlxdeck.server.backends.local.engine.kv_cost import KVCost
from mlxdeck.server.backends.local.engine.mlx.batches import Batches, PromptRow
from mlxdeck.server.backends.local.engine.mlx.drafting import Speculation
from mlxdeck.server.backends.local.engine.mlx.kv_states import (
    MlxStates,
    empty_lease,
    make_room,
)
from mlxdeck.server.backends.local.engine.mlx.layer_costs import kv_cost
from mlxdeck.server.backends.local.engine.speculation.payoff import (
    PassCosts,
    Payoff,
)
from mlxdeck.server.backends.local.scheduler.kv_budget import Demand, KVBudget

pytestmark = pytest.mark.model

CHUNK = 64
PASS_BYTES = 2_000_000
"""What a pass takes beside keys and values: without a fused kernel, mostly attention scores."""
SMALL: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 16, "intermediate_size": 48,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-6,
    "vocab_size": 64, "rope_theta": 1e4, "max_position_embeddings": 4_096,
}  # fmt: skip
"""Nearly nothing but keys and values."""


@pytest.fixture(scope="module")
def model() -> Any:
    """Random weights."""
    module = import_module("mlx_lm.models.llama")
    made = module.Model(module.ModelArgs.from_dict(SMALL))
    mx.eval(made.parameters())
    return made


class Served:
    """Sequences of a model, and the most bytes that they ever took."""

    def __init__(self, model: Any, *, drafts: bool) -> None:
        speculation = Speculation(Payoff(PassCosts(0.2)), forces=True) if drafts else None
        self._model = model
        self.batches = Batches(model, stop_tokens=[], max_kv_tokens=None, speculation=speculation)
        self.ended: list[KVState] = []
        mx.clear_cache()
        self._base_bytes = mx.get_active_memory()
        mx.reset_peak_memory()

    @property
    def peak_bytes(self) -> int:
        """Since the start."""
        return int(mx.get_peak_memory() - self._base_bytes)

    def insert(self, n_tokens: int, max_tokens: int, known: KVState | None = None) -> int:
        """A prompt of so many new tokens behind what is known."""
        chance = random.Random(n_tokens)
        held, cache = [], empty_lease(make_prompt_cache(self._model, None))
        if known is not None:
            held, cache = list(known.tokens), known.state
            make_room(cache, len(held) + n_tokens + max_tokens)
        new = [chance.randrange(5, 60) for _ in range(n_tokens)]
        row = PromptRow([new], max_tokens, cache, held, greedy_sampler, ())
        return self.batches.insert(row)

    def read(self, *uids: int, n_tokens: int = CHUNK) -> None:
        """All of these prompts."""
        while any(uid in self.batches.prompts for uid in uids):
            self.step([Read(uids, n_tokens)])

    def step(self, reads: list[Read]) -> None:
        """One, and what is left of those that end is kept as a cache does."""
        _, drawn = self.batches.step(reads)
        for each in drawn:
            if each.finish_reason:
                self.ended.append(KVState(list(each.all_tokens), each.prompt_cache))

    def finish(self) -> None:
        """Until all have ended."""
        while self.batches.groups:
            self.step([])
            self.ended.clear()


def reckoned(cost: KVCost, rows: list[tuple[int, int]]) -> int:
    """Bytes for these prompts and answers, if nobody runs."""
    return KVBudget(cost).lacking_bytes([Demand(a, b, joins=True) for a, b in rows], 0)


@pytest.mark.parametrize(("n_rows", "drafts"), [(1, True), (4, True), (8, True), (8, False)])
def test_no_step_takes_more_than_is_reckoned(model: Any, n_rows: int, drafts: bool) -> None:
    """While they are read, join, grow beyond their room and leave; and not much less is taken."""
    cost = kv_cost(model, None, CHUNK)
    rows = [(170 + 11 * n, 40 + 7 * n) for n in range(n_rows)]
    served = Served(model, drafts=drafts)
    for n_tokens, max_tokens in rows:
        served.read(served.insert(n_tokens, max_tokens))
    served.finish()
    most = reckoned(cost, rows)
    assert 0.4 * most < served.peak_bytes <= most + PASS_BYTES


@pytest.mark.parametrize("drafts", [True, False])
def test_a_pass_over_leases_of_several_lengths(model: Any, drafts: bool) -> None:
    """They lie in one buffer from the first pass on, and are copied once."""
    cost, states = kv_cost(model, None, CHUNK), MlxStates()
    served = Served(model, drafts=drafts)
    served.read(served.insert(600, 1))
    while not served.ended:
        served.step([])
    (whole,) = served.ended
    n = len(whole.tokens)
    parts = [states.block(whole.state, at, min(n, at + 256)) for at in range(0, n, 256)]
    del whole
    served.ended.clear()
    known = KVState([5] * n, states.lease(parts, n, None))
    served = Served(model, drafts=drafts)
    uids = [served.insert(40, 30, known), *(served.insert(40 + i, 30) for i in range(3))]
    served.read(*uids)
    served.finish()
    rows = [(n + 40, 30), *((40 + i, 30) for i in range(3))]
    most = reckoned(cost, rows)
    assert 0.4 * most < served.peak_bytes <= most + PASS_BYTES
