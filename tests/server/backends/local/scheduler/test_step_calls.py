"""What a step calls, counted: the model once, one wait for its arrays, the event loop once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxdeck.server.backends.local.engine.api import Sampled, SamplingParams, SequenceSpec
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.backends.local.scheduler.sequence import Sequence

pytestmark = pytest.mark.model

N_TOKENS = 160
N_STEPS = 5


class Counts:
    """Calls so far, and what they were at the beginning of each step in which all write."""

    def __init__(self) -> None:
        self.passes = self.evals = self.calls = 0
        self.steps: list[tuple[int, int, int]] = []

    def counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, counted."""

        def counted(*given: Any, **named: Any) -> Any:
            setattr(self, name, getattr(self, name) + 1)
            return real(*given, **named)

        return counted


@pytest.mark.parametrize("n_sequences", [1, 4])
async def test_a_step_makes_one_call_of_each_kind(
    small_model: str, monkeypatch: pytest.MonkeyPatch, n_sequences: int
) -> None:
    """However many write together."""
    counts = Counts()
    engine = MlxEngine(small_model, Path(small_model).parent, prefill_chunk_tokens=64)
    scheduler = Scheduler(engine, max_batch=8, max_waiting=8, prefill_chunk_tokens=64,
                          ping_s=60, stall_s=60)  # fmt: skip
    scheduler.start(lambda _: None, lambda _: None)
    await scheduler.ready
    chance, real_step = random.Random(n_sequences), engine.step

    def step(*given: Any) -> Any:
        before = (counts.passes, counts.evals, counts.calls)
        steps = real_step(*given)
        told = [each for each in steps if isinstance(each, Sampled) and each.finish is None]
        if len(counts.steps) < N_STEPS:
            all_write = len(told) == len(steps) == n_sequences
            counts.steps = [*counts.steps, before] if all_write else []
        return steps

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(engine, "step", step)
    kind = type(engine._model)
    monkeypatch.setattr(kind, "__call__", counts.counting("passes", kind.__call__))
    monkeypatch.setattr(mx, "eval", counts.counting("evals", mx.eval))
    on_loop = counts.counting("calls", loop.call_soon_threadsafe)
    monkeypatch.setattr(loop, "call_soon_threadsafe", on_loop)

    async def written(tokens: list[int]) -> None:
        sampling = SamplingParams(temperature=1.0, seed=tokens[0])
        run = SequenceSpec(tokens, 0, None, N_TOKENS, sampling)
        async with scheduler.submit(Sequence(run, lambda kept: None)) as chunks:
            async for _ in chunks:
                pass

    prompts = [[chance.randrange(100, 40_000) for _ in range(40)] for _ in range(n_sequences)]
    await asyncio.gather(*map(written, prompts))
    await scheduler.stop()
    assert len(counts.steps) >= N_STEPS
    differences = {
        tuple(b - a for a, b in zip(one, other, strict=True))
        for one, other in pairwise(counts.steps)
    }
    assert differences == {(1, 1, 1)}
