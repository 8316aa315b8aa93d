"""Tiny models with random weights, made with mlx-lm's own classes, and a real tokenizer.

Random weights say nothing about quality and everything about protocol: whatever holds for them
holds for any weights.
"""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from tests.zoo.vocabularies import VOCABULARIES

# What every architecture is told; those that don't know a word of it leave it aside.
TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
}


def n_tokens(folder: Path) -> int:
    """How many logits a model needs for the tokenizer in a folder."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = [*content["model"]["vocab"].values(), *(each["id"] for each in content["added_tokens"])]
    return int(max(ids)) + 1


def build(
    folder: Path,
    architecture: str,
    vocabulary: str,
    template: str | None = None,
    seed: int = 7,
    **config: Any,
) -> Path:
    """Write a model folder that mlx-lm can load, and return it.

    `template` replaces the chat template that comes with the tokenizer.

    Raises:
        Unavailable: The tokenizer can't be had here.
    """
    source = VOCABULARIES[vocabulary].folder()
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        shutil.copyfile(file, folder / file.name)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    fields = {**TINY, "model_type": architecture, "vocab_size": n_tokens(source), **config}
    write_weights(folder, architecture, fields, seed)
    return folder


def write_weights(folder: Path, architecture: str, fields: dict[str, Any], seed: int) -> None:
    """Write config.json and random weights of an architecture."""
    module = import_module(f"mlx_lm.models.{architecture}")
    made = module.Model(module.ModelArgs.from_dict(fields))
    mx.random.seed(seed)
    weights = {
        name: mx.random.normal(old.shape) * 0.3 if mx.issubdtype(old.dtype, mx.floating) else old
        for name, old in tree_flatten(made.parameters())
    }
    (folder / "config.json").write_text(json.dumps(fields, indent=1), encoding="utf-8")
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
