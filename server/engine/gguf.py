"""A GGUF file as a folder that mlx-lm can load.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Quantised tensors that MLX keeps
quantised (Q4_0, Q4_1, Q8_0) stay so; Q6_K and BF16 become fp16, F16 and F32 are left alone. All of
it runs on the calling thread.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlxdeck.server.engine.gguf_header import tensor_types
from mlxdeck.server.engine.gguf_tokenizer import write_tokenizer
from mlxdeck.server.errors import EngineFailed

ARCHITECTURES = ("llama", "qwen2", "qwen3")
# Not Q4_K: MLX 0.32 gets every second group of it wrong. What else is left out it can't read.
TENSOR_TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q6_K")
GROUP_SIZE = 32
"""Weights that share a scale, in every quantised type that MLX reads."""

_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(\w+)")


def convert(source: Path, target: Path) -> None:
    """Write config, weights and tokenizer of `source` into the existing folder `target`.

    Raises:
        EngineFailed: It is no GGUF file, or one whose architecture, tokenizer or tensors aren't
            supported.
    """
    try:
        types = tensor_types(source)
        _check(types, source.name)
        loaded: Any = mx.load(str(source), return_metadata=True)
    except (RuntimeError, ValueError) as error:
        raise EngineFailed(f"{source.name} is no readable GGUF file: {error}") from error
    tensors, raw = loaded
    metadata = {key: _plain(value) for key, value in raw.items()}
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        supported = ", ".join(ARCHITECTURES)
        raise EngineFailed(
            f"{source.name} is a GGUF of architecture {architecture!r}; supported: {supported}"
        )
    try:
        config = model_config(metadata, tensors)
        weights = dict(_renamed(tensors, config))
        config |= quantization(weights)
        eos = write_tokenizer(metadata, config["max_position_embeddings"], target)
    except KeyError as error:
        raise EngineFailed(f"{source.name} lacks the metadata {error}") from error
    _write_json(target / "config.json", {**config, "eos_token_id": eos})
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "mlx"})


def _check(types: dict[str, str], file_name: str) -> None:
    """Refuse tensors that MLX can't read, naming the commonest such type."""
    unread = Counter(kind for kind in types.values() if kind not in TENSOR_TYPES)
    for kind, n_tensors in unread.most_common(1):
        first = next(name for name, its_kind in types.items() if its_kind == kind)
        raise EngineFailed(
            f"{file_name} has {n_tensors} tensors of type {kind}, such as {first};"
            f" supported: {', '.join(TENSOR_TYPES)}"
        )


def model_config(metadata: dict[str, Any], tensors: dict[str, mx.array]) -> dict[str, Any]:
    """Make `config.json` of the metadata, in the names that transformers uses."""
    kind = metadata["general.architecture"]

    def of(key: str, default: Any = None) -> Any:
        name = f"{kind}.{key}"
        return metadata[name] if default is None else metadata.get(name, default)

    heads = of("attention.head_count")
    hidden = of("embedding_length")
    head_dim = of("attention.key_length", hidden // heads)
    if of("rope.dimension_count", head_dim) != head_dim:
        raise EngineFailed("a GGUF that rotates only a part of each head is not supported")
    return {
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": of("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_theta": of("rope.freq_base", 10_000.0),
        "rope_scaling": rope_scaling(metadata, tensors),
        "max_position_embeddings": of("context_length"),
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
    }


def rope_scaling(metadata: dict[str, Any], tensors: dict[str, mx.array]) -> dict[str, Any] | None:
    """How positions are stretched: as in Llama 3, by its largest factor; linearly; or by YaRN."""
    if "rope_freqs.weight" in tensors:
        factor = float(np.max(np.array(tensors["rope_freqs.weight"])))
        return {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    scaling = f"{metadata['general.architecture']}.rope.scaling"
    kind = metadata.get(f"{scaling}.type", "none")
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise EngineFailed(f"a GGUF with rope scaling of type {kind!r} is not supported")
    stretched = {"rope_type": kind, "factor": metadata[f"{scaling}.factor"]}
    if kind == "yarn":
        original = metadata[f"{scaling}.original_context_length"]
        stretched["original_max_position_embeddings"] = original
    return stretched


def _renamed(
    tensors: dict[str, mx.array], config: dict[str, Any]
) -> Iterator[tuple[str, mx.array]]:
    permuted = {}
    if config["model_type"] == "llama":
        permuted = {
            "attn_q": config["num_attention_heads"],
            "attn_k": config["num_key_value_heads"],
        }
    for name, tensor in tensors.items():
        if found := _BLOCK.fullmatch(name):
            layer, part, kind = found.groups()
            if part not in _IN_BLOCK:
                raise EngineFailed(f"unknown tensor {name}")
            if part in permuted:
                tensor = unpermuted(tensor, permuted[part])
            yield f"model.layers.{layer}.{_IN_BLOCK[part]}.{kind}", tensor
        elif name != "rope_freqs.weight":
            part, _, kind = name.partition(".")
            if part not in _WHOLE:
                raise EngineFailed(f"unknown tensor {name}")
            yield f"{_WHOLE[part]}.{kind}", tensor


def unpermuted(tensor: mx.array, n_heads: int) -> mx.array:
    """Undo what llama.cpp's converter does to the rows of Llama's q and k.

    It interleaves the two halves of each head, for its own way to rotate; mlx-lm rotates halves.
    """
    rows, *rest = tensor.shape
    halves = tensor.reshape(n_heads, rows // n_heads // 2, 2, *rest).swapaxes(1, 2)
    return halves.reshape(tensor.shape)


def quantization(weights: dict[str, mx.array]) -> dict[str, Any]:
    """Tell the bits of each quantised layer: the commonest as the rule, others as exceptions."""
    bits: dict[str, int] = {}
    for name, scales in weights.items():
        if name.endswith(".scales"):
            layer = name.removesuffix(".scales")
            n_inputs = scales.shape[-1] * GROUP_SIZE
            bits[layer] = weights[f"{layer}.weight"].shape[-1] * 32 // n_inputs
    if not bits:
        return {}
    common = Counter(bits.values()).most_common(1)[0][0]
    rule: dict[str, Any] = {"group_size": GROUP_SIZE, "bits": common}
    rule |= {
        layer: {"group_size": GROUP_SIZE, "bits": n} for layer, n in bits.items() if n != common
    }
    return {"quantization": rule}


def _plain(value: Any) -> Any:
    """Metadata arrives as arrays of one number; lists and texts are as they should be."""
    return value.tolist() if isinstance(value, mx.array) else value


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
