"""What each GGUF architecture is called in mlx-lm: its config, and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Metadata = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
"""Of each tensor, with the rows first."""

_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
_MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_DENSE = {**_ATTENTION, **_MLP, "ffn_norm": "post_attention_layernorm"}


def _experts(prefix: str) -> dict[str, str]:
    return {f"ffn_{part}_exps": f"{prefix}.{part}_proj" for part in ("gate", "up", "down")}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One of those that can be converted."""

    model_type: str
    in_block: Mapping[str, str] = field(default_factory=lambda: _DENSE)
    prefix: str = ""
    """Before each name."""
    interleaved: tuple[str, ...] = ()
    """Parts whose rows llama.cpp's converter has put in another order; see `unpermuted`."""
    norm_offset: float = 0.0
    """Value that the converter has added to the weights of norms."""
    more: Callable[[Metadata, Callable[..., Any], Shapes], dict[str, Any]] = lambda *_: {}
    """Config beyond what all have."""
    needs: tuple[str, ...] = ()
    """Keys beyond those that all need."""


def _moe(metadata: Metadata, of: Callable[..., Any], shapes: Shapes) -> dict[str, Any]:
    hidden = of("expert_feed_forward_length")
    return {
        "num_experts": of("expert_count"),
        "num_experts_per_tok": of("expert_used_count"),
        "moe_intermediate_size": hidden,
        "intermediate_size": of("feed_forward_length", hidden),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    }


def _gemma3(metadata: Metadata, of: Callable[..., Any], shapes: Shapes) -> dict[str, Any]:
    heads, head_dim = of("attention.head_count"), of("attention.key_length", 256)
    largest = of("block_count") == 62
    return {
        "head_dim": head_dim,
        "rope_theta": of("rope.freq_base", 1_000_000.0),
        "rope_local_base_freq": of("rope.freq_base_swa", 10_000.0),
        "sliding_window": of("attention.sliding_window", 512),
        "sliding_window_pattern": 6,
        # Only the largest model scales its queries by the head size that results without
        # `head_dim`.
        "query_pre_attn_scalar": of("embedding_length") // heads if largest else head_dim,
    }


def _gpt_oss(metadata: Metadata, of: Callable[..., Any], shapes: Shapes) -> dict[str, Any]:
    return {
        "num_local_experts": of("expert_count"),
        "num_experts_per_tok": of("expert_used_count"),
        "intermediate_size": of("expert_feed_forward_length"),
        "sliding_window": of("attention.sliding_window", 128),
        "layer_types": [
            "full_attention" if index % 2 else "sliding_attention"
            for index in range(of("block_count"))
        ],
    }


def _llama4(metadata: Metadata, of: Callable[..., Any], shapes: Shapes) -> dict[str, Any]:
    return {
        "num_local_experts": of("expert_count"),
        "num_experts_per_tok": of("expert_used_count"),
        "intermediate_size": of("expert_feed_forward_length"),
        "intermediate_size_mlp": of("feed_forward_length"),
        "interleave_moe_layer_step": of("interleave_moe_layer_step", 1),
        "attention_chunk_size": of("attention.chunk_size", 8_192),
        "use_qk_norm": of("expert_count") != 128,
        "attention_bias": False,
    }


_FED_FORWARD = {name: f"feed_forward.{name.split('_')[1]}_proj" for name in _MLP}
ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", interleaved=("attn_q", "attn_k")),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "qwen3moe": Architecture(
        "qwen3_moe",
        {**_DENSE, "ffn_gate_inp": "mlp.gate", **_experts("mlp.switch_mlp")},
        more=_moe,
        needs=("expert_count", "expert_used_count", "expert_feed_forward_length"),
    ),
    "gemma3": Architecture(
        "gemma3_text",
        {
            **_ATTENTION,
            **_MLP,
            "post_attention_norm": "post_attention_layernorm",
            "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
        norm_offset=1.0,
        more=_gemma3,
    ),
    "gpt-oss": Architecture(
        "gpt_oss",
        {
            **_ATTENTION,
            "attn_sinks": "self_attn.sinks",
            "post_attention_norm": "post_attention_layernorm",
            "ffn_gate_inp": "mlp.router",
            **_experts("mlp.experts"),
        },
        more=_gpt_oss,
        needs=("expert_count", "expert_used_count", "expert_feed_forward_length"),
    ),
    "llama4": Architecture(
        "llama4",
        {
            **_ATTENTION,
            **_FED_FORWARD,
            "ffn_norm": "post_attention_layernorm",
            "ffn_gate_inp": "feed_forward.router",
            **_experts("feed_forward.experts"),
            "ffn_gate_shexp": "feed_forward.shared_expert.gate_proj",
            "ffn_up_shexp": "feed_forward.shared_expert.up_proj",
            "ffn_down_shexp": "feed_forward.shared_expert.down_proj",
        },
        prefix="language_model.",
        more=_llama4,
        needs=("expert_count", "expert_used_count", "expert_feed_forward_length"),
    ),
}
"""By `general.architecture`."""
NEEDED = (
    "embedding_length",
    "block_count",
    "context_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)
UNUSED = frozenset({"rope_freqs.weight"})
"""From the config, or computed."""
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)(?:\.(\w+))?")


def new_name(name: str, architecture: Architecture) -> str | None:
    """The name of a tensor in mlx-lm; None for an unknown one."""
    if found := _BLOCK.fullmatch(name):
        layer, part, kind = found.groups()
        if part not in architecture.in_block:
            return None
        # gpt-oss's sinks are a value, not a layer with weights.
        end = "" if part == "attn_sinks" else f".{kind}"
        return f"{architecture.prefix}model.layers.{layer}.{architecture.in_block[part]}{end}"
    part, _, kind = name.partition(".")
    return f"{architecture.prefix}{_WHOLE[part]}.{kind}" if part in _WHOLE else None


def model_config(metadata: Metadata, shapes: Shapes, rope_scaling: Any) -> dict[str, Any]:
    """Make `config.json` of the metadata, in the names that transformers uses."""
    kind = metadata["general.architecture"]
    architecture = ARCHITECTURES[kind]

    def of(key: str, default: Any = None) -> Any:
        name = f"{kind}.{key}"
        return metadata[name] if default is None else metadata.get(name, default)

    heads = of("attention.head_count")
    hidden = of("embedding_length")
    config = {
        "model_type": architecture.model_type,
        "hidden_size": hidden,
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": of("attention.head_count_kv", heads),
        "head_dim": of("attention.key_length", hidden // heads),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_theta": of("rope.freq_base", 10_000.0),
        "rope_scaling": rope_scaling,
        "max_position_embeddings": of("context_length"),
        "vocab_size": shapes["token_embd.weight"][0],
        "tie_word_embeddings": "output.weight" not in shapes,
        "attention_bias": "blk.0.attn_q.bias" in shapes,
    }
    config |= architecture.more(metadata, of, shapes)
    if "intermediate_size" not in config:
        config["intermediate_size"] = of("feed_forward_length")
    if kind == "llama4":
        inner = {**config, "model_type": "llama4_text"}
        return {"model_type": "llama4", "text_config": inner}
    return config
