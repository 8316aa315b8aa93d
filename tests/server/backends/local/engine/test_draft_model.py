"""A small model guesses what a large one writes: the same text, in fewer of its passes."""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlxdeck.server.backends.local.engine.api import Sampled, SamplingParams, SequenceSpec
from mlxdeck.server.backends.local.engine.mlx import draft_model
from mlxdeck.server.backends.local.engine.mlx.draft_model import DraftModel
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.models.loader import load_weights, resolve
from mlxdeck.server.backends.local.engine.speculation.payoff import Payoff
from mlxdeck.server.errors import EngineFailed
from tests.real import models_home
from tests.server.backends.local.engine.test_mlx_held import tiny
from tests.server.backends.local.engine.test_mlx_steps import FreePasses
from tests.zoo import models
from tests.zoo.families import FAMILIES

pytestmark = pytest.mark.model

N_ANSWER = 40
LARGE = ("llama", "gemma3", "deepseek_v3_plain", "mamba2")
"""Caches that can be cut, some of them windows, and one that can't."""


class ForNothing(DraftModel):
    """As if guesses cost nothing."""

    token_s = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.weight_share = 1e-9


def small(folder: Path, architecture: str = "llama", *, seed: int = 7, **more: Any) -> Path:
    """A tiny model over bytes."""
    tiny(special=False)._tokenizer.save_pretrained(folder)
    fields = {**models.TINY, **more, "model_type": architecture}
    fields["vocab_size"] = models.n_tokens(folder)
    models.write_weights(folder, architecture, fields, seed=seed)
    return folder


def loaded(model: Path | str, home: Path, drafts: Path | str = "", **settings: Any) -> MlxEngine:
    """An engine whose answers all have full length."""
    settings = {"prompt_lookup": False, "forced_spans": False, **settings}
    engine = MlxEngine(
        str(model), home, prefill_chunk_tokens=16, draft_model=str(drafts), **settings
    )
    engine.load(lambda _: None)
    engine._stop_tokens = []
    engine.reset()
    return engine


@pytest.fixture
def pays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every guess is made, however unsure."""
    monkeypatch.setattr(draft_model, "LEAST_SHARE", 0.0)
    monkeypatch.setattr(draft_model, "DraftModel", ForNothing)
    yield


def two_layers(folder: Path) -> Path:
    """The built-in model without all but its first two layers."""
    source = resolve("smollm2", models_home(), lambda _: None).path
    folder.mkdir()
    for each in ("tokenizer.json", "tokenizer_config.json"):
        (folder / each).symlink_to(source / each)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config = {key: config[key] for key in config if not key.startswith("quantization")}
    config["num_hidden_layers"] = 2
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    weights = {
        name: each
        for name, each in tree_flatten(load_weights(source)[0].parameters())
        if not name.startswith("model.layers.") or int(name.split(".")[2]) < 2
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def answers(
    engine: MlxEngine, prompts: list[list[int]], n_answer: int = N_ANSWER
) -> tuple[list[list[int]], int, int]:
    """What is written to each, all at once; how many tokens were drafted and accepted."""
    if engine._speculation:
        engine._speculation.payoff = Payoff(FreePasses(0.0))
    found: dict[int, list[int]] = {
        engine.insert(SequenceSpec(each, 0, None, n_answer, SamplingParams())): []
        for each in prompts
    }
    n_drafted = n_accepted = n_ended = 0
    while n_ended < len(prompts):
        for each in engine.step():
            if isinstance(each, Sampled):
                found[each.uid].append(each.token)
                n_drafted += each.n_drafted
                n_accepted += each.n_accepted
                n_ended += each.finish is not None
    return list(found.values()), n_drafted, n_accepted


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.usefixtures("pays")
def test_the_text_is_that_without_a_draft_model(name: str, tmp_path: Path) -> None:
    """For every kind of cache, of rows at once; without guesses where none can be taken back."""
    chance = random.Random(1)
    prompts = [[chance.randrange(250) for _ in range(n)] for n in (5, 60, 31)]
    family = FAMILIES[name]
    large = small(tmp_path / "large", family.architecture, **family.config)
    drafts = small(tmp_path / "small", seed=3)
    plain, guessed = loaded(large, tmp_path), loaded(large, tmp_path, drafts)
    expected, *_ = answers(plain, prompts)
    texts, n_drafted, n_accepted = answers(guessed, prompts)
    assert texts == expected
    assert (n_drafted > 0) is (name != "mamba2") and n_accepted <= n_drafted
    for engine in (plain, guessed):
        engine.close()


@pytest.mark.usefixtures("pays")
def test_a_model_that_guesses_for_itself_is_always_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a prompt that it reads in parts, and in a conversation that goes on."""
    monkeypatch.setattr(draft_model, "READ_TOKENS", 20)
    folder = small(tmp_path / "model")
    engine = loaded(folder, tmp_path, folder)
    prompt = [random.Random(2).randrange(250) for _ in range(90)]
    [text], n_drafted, n_accepted = answers(engine, [prompt])
    assert n_accepted == n_drafted >= N_ANSWER // 2
    draft = engine._draft_model
    assert draft is not None
    n_read = 0
    real = draft._logits

    def counted(read: Any, tokens: list[int]) -> Any:
        nonlocal n_read
        n_read += len(tokens)
        return real(read, tokens)

    monkeypatch.setattr(draft, "_logits", counted)
    gc.collect()
    _, n_drafted, n_accepted = answers(engine, [[*prompt, *text, 7, 8, 9]])
    assert n_accepted == n_drafted >= N_ANSWER // 2
    # What it had read of the conversation is not read again.
    assert n_read < 2 * N_ANSWER
    engine.close()


@pytest.mark.usefixtures("pays")
def test_it_is_freed_and_loaded_with_the_model(tmp_path: Path) -> None:
    """Unloading frees both, and after it guesses go on; caches of ended sequences stay few."""
    folder = small(tmp_path / "model")
    engine = loaded(folder, tmp_path, folder)
    before, *_ = answers(engine, [[1, 2, 3]])
    held_bytes = mx.get_active_memory()
    engine.unload()
    assert mx.get_active_memory() < held_bytes
    for _ in engine.reload():
        pass
    after, n_drafted, n_accepted = answers(engine, [[1, 2, 3]])
    assert after == before and n_accepted == n_drafted > 0
    for n in range(9):
        answers(engine, [[n, n + 1]])
    assert engine._draft_model and len(engine._draft_model._read) <= draft_model.MAX_SPARE + 1
    engine.close()


def test_a_model_that_cannot_guess_is_refused(tmp_path: Path) -> None:
    """With other tokens, with a state that can't be taken back, or not to be had."""
    folder = small(tmp_path / "model")
    recurrent = small(tmp_path / "mamba", "mamba2", **FAMILIES["mamba2"].config)
    other = small(tmp_path / "other")
    path = other / "tokenizer.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["added_tokens"].append({**told["added_tokens"][-1], "id": 259, "content": "<new>"})
    path.write_text(json.dumps(told), encoding="utf-8")
    for drafts, why in (
        (recurrent, "can't take a wrong guess back"),
        (other, "their tokens differ"),
        (tmp_path / "nowhere", "no model"),
    ):
        with pytest.raises(EngineFailed, match=why):
            loaded(folder, tmp_path, drafts)


@pytest.mark.usefixtures("pays")
def test_two_layers_of_the_built_in_model_guess_for_all_of_it(tmp_path: Path) -> None:
    """However seldom they are right, the text stays the same."""
    cut = two_layers(tmp_path / "cut")
    engine = loaded("smollm2", models_home(), forced_spans=True)
    guessed = loaded("smollm2", models_home(), cut)
    prompt = engine.tokenizer.encode("The sea is calm, the sky is blue, and the sea is calm")
    expected, *_ = answers(engine, [prompt], 8)
    texts, n_drafted, n_accepted = answers(guessed, [prompt], 8)
    assert texts == expected and 0 <= n_accepted < n_drafted
    for one in (engine, guessed):
        one.close()
