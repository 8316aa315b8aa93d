"""Unloading MLX models of each kind of cache: their memory comes back, and then their words."""

from __future__ import annotations

import gc
from pathlib import Path

import mlx.core as mx
import pytest

from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.models import loader
from mlxdeck.server.errors import EngineFailed
from tests.real import models_home
from tests.server.backends.local.engine.test_forced_spans import folder_of
from tests.server.backends.local.engine.test_mlx import PROMPT, STORY, finish, run
from tests.zoo.models import small_smollm2

pytestmark = pytest.mark.model

MAX_LEFT_BYTES = 256
"""Of a model's arrays: a random key or two."""
N_TOKENS = 12


def loaded(model: str) -> MlxEngine:
    """An engine with a model."""
    engine = MlxEngine(model, models_home(), prefill_chunk_tokens=64)
    engine.load(lambda _: None)
    return engine


def words(engine: MlxEngine, prompt: str = PROMPT) -> str:
    """A greedy answer."""
    uid = engine.insert(run(engine, prompt, N_TOKENS))
    return finish(engine, uid)[uid][0]


def reloaded(engine: MlxEngine) -> int:
    """Load it again; the number of steps."""
    return sum(1 for _ in engine.reload())


@pytest.mark.parametrize("family", ["gemma3", "mamba2"])
def test_its_memory_comes_back_and_its_words_too(family: str, tmp_path: Path) -> None:
    """Rotating and recurrent caches; with sequences in it, and time after time."""
    folder = folder_of(family, tmp_path / family)
    gc.collect()
    before_bytes = mx.get_active_memory()
    engine = loaded(str(folder))
    said = words(engine)
    held_bytes = mx.get_active_memory() - before_bytes
    for _ in range(2):
        engine.insert(run(engine, STORY, 50))
        engine.step()
        engine.step()
        engine.unload()
        assert mx.get_active_memory() - before_bytes <= MAX_LEFT_BYTES < held_bytes
        assert engine.tokenizer.encode("still here")
        reloaded(engine)
        assert words(engine) == said
    engine.close()
    assert mx.get_active_memory() - before_bytes <= MAX_LEFT_BYTES


def test_it_is_loaded_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as its weights need; one that is given up leaves nothing."""
    engine = loaded(str(small_smollm2(tmp_path / "small")))
    said = words(engine)
    engine.unload()
    assert engine.grammars.check('start: "a"') == ""
    left_bytes = mx.get_active_memory()
    monkeypatch.setattr(loader, "STEP_BYTES", 1 << 12)
    steps = engine.reload()
    for _ in range(3):
        next(steps)
    assert mx.get_active_memory() > left_bytes
    steps.close()
    engine.unload()
    assert mx.get_active_memory() <= left_bytes + MAX_LEFT_BYTES
    assert reloaded(engine) > 10
    assert words(engine) == said
    engine.close()


def test_other_files_are_refused_and_missing_ones_named(tmp_path: Path) -> None:
    """What answers is what was loaded at the start; once the files are back, it is again."""
    folder = small_smollm2(tmp_path / "small")
    engine = loaded(str(folder))
    said = words(engine)
    engine.unload()
    config, weights = folder / "config.json", folder / "model.safetensors"
    told = config.read_text()
    config.write_text(told.replace('"vocab_size"', '"rope_theta": 77.0, "vocab_size"'))
    with pytest.raises(EngineFailed, match="small have changed since the server started"):
        reloaded(engine)
    config.write_text(told)
    weights.rename(tmp_path / "away")
    with pytest.raises(EngineFailed):
        reloaded(engine)
    (tmp_path / "away").rename(weights)
    engine.unload()
    reloaded(engine)
    assert words(engine) == said
    engine.close()
