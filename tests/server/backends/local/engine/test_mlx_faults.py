"""Faults of MLX below the engine: each costs what it has to, and the server goes on."""

from __future__ import annotations

import asyncio
import copy
import importlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.api import Constraint, SamplingParams, SequenceSpec
from mlxdeck.server.backends.local.engine.mlx import engine as mlx_engine
from mlxdeck.server.backends.local.engine.mlx import kv_bytes, kv_states
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.sampling import is_finite
from mlxdeck.server.backends.local.kv import run_file
from mlxdeck.server.backends.local.kv.blocks import FileRange
from tests.real import models_home
from tests.server.backends.local.engine.test_mlx import PROMPT, STORY, finish, run
from tests.server.http import Running, running, until

pytestmark = pytest.mark.model

GENERATE: Any = importlib.import_module("mlx_lm.generate")
FULL = "[malloc] Unable to allocate 1 bytes: injected"


def small_engine(model: str) -> MlxEngine:
    """An engine of the small model; whether a draft is tried would depend on the clock."""
    return MlxEngine(
        model, models_home(), prefill_chunk_tokens=64, prompt_lookup=False, forced_spans=False
    )


@pytest.fixture(scope="module")
def loaded(small_model: str) -> Iterator[MlxEngine]:
    """A small model, loaded once."""
    engine = small_engine(small_model)
    engine.load(lambda _: None)
    yield engine
    engine.close()


@pytest.fixture
def engine(loaded: MlxEngine) -> MlxEngine:
    """Without sequences of an earlier test."""
    loaded.reset()
    return loaded


class Spoilt:
    """A model whose logits are spoilt, for one row of a batch, from some step on."""

    def __init__(self, model: Any, row: int, value: float, n_before: int) -> None:
        self.model, self.row, self.value, self.n_before = model, row, value, n_before

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, inputs: mx.array, **more: Any) -> mx.array:
        """As the model, but for the decode steps of a batch that has this row."""
        logits: mx.array = self.model(inputs, **more)
        if inputs.shape[1] > 1 or inputs.shape[0] <= self.row:
            return logits
        if self.n_before:
            self.n_before -= 1
            return logits
        rows = mx.arange(logits.shape[0])[:, None, None] == self.row
        return mx.where(rows, mx.array(self.value, logits.dtype), logits)


@pytest.mark.parametrize(
    ("value", "sampling"),
    [
        (mx.nan, SamplingParams()),
        (-mx.inf, SamplingParams(0.8, 0.9, 40)),
        (mx.inf, SamplingParams(1.0, seed=3)),
    ],
    ids=["nan", "none", "infinite"],
)
def test_logits_that_are_no_numbers_end_their_sequence_alone(
    engine: MlxEngine, value: float, sampling: SamplingParams
) -> None:
    """In a batch, greedy or drawn: the other one says what it says alone."""
    alone = finish(engine, uid := engine.insert(run(engine, PROMPT)))[uid]
    engine.reset()
    engine._batch._model = Spoilt(engine._model, 1, value, 2)
    good = engine.insert(run(engine, PROMPT))
    tokens = engine.tokenizer.encode(STORY)
    bad = engine.insert(SequenceSpec(tokens, 0, None, 24, sampling))
    ended: dict[int, Any] = {}
    text = ""
    while len(ended) < 2:
        for step in engine.step():
            text += step.text if getattr(step, "text", "") and step.uid == good else ""  # type: ignore[union-attr]
            if getattr(step, "finish", None):
                ended[step.uid] = step
    assert ended[bad].finish == "failed" and "no numbers" in ended[bad].why
    assert ended[bad].kept is None
    assert (text, ended[good].finish) == alone[:2]
    engine.reset()
    assert finish(engine, uid := engine.insert(run(engine, PROMPT)))[uid][0] == alone[0]


def test_a_held_sequence_is_ended_alike(engine: MlxEngine) -> None:
    """What its mask lets through may be impossible too."""
    engine._batch._model = Spoilt(engine._model, 0, -mx.inf, 2)
    tokens = engine.tokenizer.encode(PROMPT)
    held = Constraint('start: "<" /[0-9]{20}/ ">"\n')
    uid = engine.insert(SequenceSpec(tokens, 0, None, 24, SamplingParams(), constraint=held))
    steps = [step for _ in range(8) for step in engine.step()]
    (end,) = [step for step in steps if getattr(step, "finish", None)]
    assert (end.uid, end.finish) == (uid, "failed")  # type: ignore[union-attr]


def test_looking_at_the_logits_computes_nothing(
    engine: MlxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run evaluates as often with it as without."""
    calls: list[str] = []

    def counted(name: str) -> Any:
        real = getattr(mx, name)

        def work(*args: Any) -> Any:
            calls.append(name)
            return real(*args)

        return work

    for name in ("eval", "async_eval"):
        monkeypatch.setattr(mx, name, counted(name))
    counts = []
    for look in (is_finite, lambda *_: True):
        monkeypatch.setattr(mlx_engine, "is_finite", look)
        calls.clear()
        finish(engine, engine.insert(run(engine, STORY, 12)))
        counts.append(len(calls))
    assert counts[0] == counts[1] > 12


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_numbers_are_told_from_what_is_none(dtype: mx.Dtype) -> None:
    """Of each type that models compute in, wherever in the row it stands."""
    logits = mx.array([[1.0, 2.0, 3.0, -mx.inf], [1.0, mx.nan, 3.0, 2.0], [1.0, mx.inf, 2.0, 3.0]])
    logits = logits.astype(dtype)
    rows = list(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    mx.eval(rows)
    found = [[is_finite(row, token) for token in range(4)] for row in rows]
    assert found == [[True, True, True, False], [False] * 4, [False] * 4]


SYSTEM = "You are terse and answer in few words. " * 12


def failing(calls: list[int], real: Any) -> Any:
    """`real`, but for the calls whose numbers are taken from a list."""

    def work(*args: Any) -> Any:
        calls[0] -= 1
        if calls[0] == 0:
            raise RuntimeError(FULL)
        return real(*args)

    return work


async def asked(server: Running, text: str, **more: Any) -> Any:
    """One answer of a few words."""
    return await server.ask(text, system=SYSTEM, temperature=0, max_tokens=3, **more)


def backend_of(server: Running) -> LocalBackend:
    """What answers there."""
    assert isinstance(server.service.backend, LocalBackend)
    return server.service.backend


async def test_memory_that_lacks_anywhere_costs_one_answer_at_most(
    small_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the model, where a state is kept, cut, restored: the server is whole afterwards."""
    async with running(small_engine(small_model), home=tmp_path, exact_cache_entries=0) as server:
        good = (await asked(server, "Name a colour.")).json()["content"]
        sites = [
            (GENERATE.PromptProcessingBatch, "prompt"),
            (GENERATE.GenerationBatch, "next"),
            (GENERATE.GenerationBatch, "extract_cache"),
            (GENERATE, "make_prompt_cache"),
            (mlx_engine, "kept"),
            (copy, "deepcopy"),
            (kv_states.MlxStates, "size_bytes"),
        ]
        for owner, name in sites:
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, failing([1], getattr(owner, name)))
                answers = await asyncio.gather(
                    asked(server, "Name a colour."), asked(server, f"{name}?")
                )
            for each in answers:
                assert each.status_code in (200, 500), name
                if each.status_code == 500:
                    assert "injected" in each.json()["error"]["message"]
            await until(lambda: backend_of(server).scheduler.healthy)
        assert (await asked(server, "Name a colour.")).json()["content"] == good
        assert backend_of(server).scheduler.n_rebuilds >= 2
        n_asked = 2 + 2 * len(sites)
        assert len(await server.ended(n_asked)) == n_asked
        assert backend_of(server).kv.states.ram.n_leases == 0


async def test_a_state_is_read_where_it_holds_nobody_up(
    small_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes come from the disk's thread; if there is no room for it, the prompt is read."""
    threads: list[str] = []
    real = run_file.read

    def noted(folder: Path, places: Sequence[FileRange]) -> list[bytes]:
        threads.append(threading.current_thread().name)
        return real(folder, places)

    monkeypatch.setattr(run_file, "read", noted)
    async with running(small_engine(small_model), home=tmp_path, exact_cache_entries=0) as server:
        await asked(server, "Name a colour.")
    monkeypatch.setattr(kv_bytes, "unpacked", failing([1], kv_bytes.unpacked))
    async with running(small_engine(small_model), home=tmp_path, exact_cache_entries=0) as server:
        for hit in (False, True):
            reply = (await asked(server, "Name a number.")).json()
            assert (reply["usage"]["cache_read_input_tokens"] > 0) is hit
            await server.http.delete("/v1/cache", params={"tier": "prefix"})
        cache = (await server.http.get("/v1/cache")).json()
        assert cache["prefix_disk"]["evictions"] == {"failed": 1}
        assert cache["prefix_disk"]["hits"] == 1
    assert len(threads) == 2
    assert all(name.startswith("disk-check") for name in threads)
