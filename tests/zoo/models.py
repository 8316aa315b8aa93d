"""Tiny models with random weights, made with mlx-lm's own classes, and a real tokenizer.

Random weights say nothing about quality and everything about protocol: whatever holds for them
holds for any weights.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from tokenizers import Tokenizer

from mlxdeck.server.backends.local.engine.models.loader import resolve
from tests.real import models_home
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
    "tie_word_embeddings": False,
}
MODULES = {"mistral": "llama"}
"""Model types that mlx-lm reads with the classes of another one."""
BOLD = 4.0
"""How much larger the row of a token is that the model is to write now and then: at every step it
wins over all others about once in eight times."""

SURE = 8.0
"""How far apart logits are, so that also at temperature 1 a few tokens win over all others."""
_LAST_NORMS = (
    *("model.norm.weight", "norm_f.weight", "final_layernorm.weight", "embedding_norm.weight"),
)
LOUD = 3.0
"""Length of the row of a token that is to follow another one."""


@dataclass(frozen=True, slots=True)
class Markers:
    """What a tokenizer is given that is not its own."""

    texts: Sequence[str] = ()
    """Added tokens."""
    special: bool = True
    """Whether the added tokens are marked as special ones."""
    renamed: Sequence[tuple[str, str]] = ()
    """Reserved tokens that get the name of another one."""
    bos: str | None = None
    eos: str | None = None


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
    markers: Markers | None = None,
    bold: Sequence[str] = (),
    chain: str = "",
    seeing: bool = False,
    **config: Any,
) -> Path:
    """Write a model folder that mlx-lm can load, and return it.

    `template` replaces the chat template that comes with the tokenizer. The tokens `bold` are what
    the model often writes; those of the text `chain` one behind the other. `seeing` puts the
    fields where models that also see have them.

    Raises:
        Unavailable: The tokenizer can't be had here.
    """
    source = VOCABULARIES[vocabulary].folder()
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        shutil.copyfile(file, folder / file.name)
    if markers is not None:
        mark(folder, markers)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    fields = {**TINY, "model_type": architecture, "vocab_size": n_tokens(folder), **config}
    ends = fields.get("eos_token_id")
    if isinstance(ends, (list, tuple)) and any(isinstance(each, str) for each in ends):
        fields["eos_token_id"] = ids_of(folder, ends)
    if seeing:
        fields = nested(fields)
    linked = encoded(folder, chain)
    bold_ids = [*ids_of(folder, bold), *linked[:1]]
    write_weights(folder, architecture, fields, seed, bold_ids, linked)
    return folder


def small_smollm2(folder: Path, **more: Any) -> Path:
    """Write the built-in model's tokenizer and template with a small random llama.

    A step costs a hundredth of the built-in model's, for all that real words add nothing to.
    """
    source = resolve("smollm2", models_home(), lambda _: None).path
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    kept = {key: config[key] for key in ("eos_token_id", "bos_token_id") if key in config}
    fields = {**TINY, **kept, "model_type": "llama", "vocab_size": n_tokens(folder), **more}
    write_weights(folder, "llama", fields, seed=7)
    return folder


def nested(fields: dict[str, Any]) -> dict[str, Any]:
    """A config as models have it that also see: what is of the text model stands a level deeper."""
    outer: dict[str, Any] = {
        key: fields[key] for key in ("model_type", "vocab_size", "eos_token_id") if key in fields
    }
    return {**outer, "text_config": fields}


def mark(folder: Path, markers: Markers) -> None:
    """Add tokens to the tokenizer in a folder, rename some, and say which begin and end a text."""
    path, config_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    config = json.loads(config_path.read_text(encoding="utf-8"))
    renamed, added = dict(markers.renamed), content["added_tokens"]
    for each in (*added, *config.get("added_tokens_decoder", {}).values()):
        each["content"] = renamed.get(each["content"], each["content"])
    have = {each["content"] for each in added}
    following = n_tokens(folder)
    for text in markers.texts:
        if text not in have:
            plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            token = {"content": text, "special": markers.special, **plain}
            added.append({"id": following, **token})
            config.get("added_tokens_decoder", {})[str(following)] = token
            following += 1
    for name, end in (("bos_token", markers.bos), ("eos_token", markers.eos)):
        if end is not None:
            config[name] = end
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    config_path.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")


def ids_of(folder: Path, texts: Iterable[str]) -> list[int]:
    """The ids of tokens, told by their text."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = content["model"]["vocab"] | {
        each["content"]: each["id"] for each in content["added_tokens"]
    }
    return [int(ids[text]) for text in texts]


def encoded(folder: Path, text: str) -> list[int]:
    """The ids of a text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return list(tokenizer.encode(text, add_special_tokens=False).ids) if text else []


def write_weights(
    folder: Path,
    architecture: str,
    fields: dict[str, Any],
    seed: int,
    bold: Sequence[int] = (),
    chain: Sequence[int] = (),
) -> None:
    """Write config.json and random weights of an architecture."""
    module = import_module(f"mlx_lm.models.{MODULES.get(architecture, architecture)}")
    made = module.Model(module.ModelArgs.from_dict(json.loads(json.dumps(fields))))
    mx.random.seed(seed)
    weights = {
        name: mx.random.normal(old.shape) * 0.3 if mx.issubdtype(old.dtype, mx.floating) else old
        for name, old in tree_flatten(made.parameters())
    }
    rows = {name for name, each in weights.items() if each.shape[0] == fields["vocab_size"]}
    embedding = next(name for name in sorted(rows) if "embed" in name and "per_layer" not in name)
    head = next((name for name in sorted(rows) if "embed" not in name), embedding)
    for name in weights:
        if name.endswith(_LAST_NORMS):
            weights[name] = weights[name] * SURE
    if bold:
        scale = mx.ones((fields["vocab_size"], 1))
        scale[mx.array(list(bold))] = BOLD
        weights[head] = weights[head] * scale
    if chain:
        _link(weights, embedding, head, chain)
    (folder / "config.json").write_text(json.dumps(fields, indent=1), encoding="utf-8")
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})


def _link(weights: dict[str, mx.array], embedding: str, head: str, chain: Sequence[int]) -> None:
    """Let each token of a chain be followed by the next one.

    What the layers say is made faint, so that the token before decides.
    """
    for name, each in weights.items():
        if name.endswith(_LAST_NORMS):
            weights[name] = mx.full(each.shape, SURE)
        elif "layers." in name and each.ndim > 1:
            weights[name] = each * 0.1
    for before, after in itertools.pairwise(chain):
        row = weights[embedding][before]
        weights[head][after] = row * (LOUD / mx.sqrt(row.square().sum()))
