"""Size of a sequence's KV cache, from a model's config. Pure; an estimate for a person to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlxdeck.server.backends.local.engine.models.context_window import count, text_parts

FULL, SLIDING, RECURRENT = "full", "sliding", "recurrent"
_KINDS = {
    "attention": FULL, "full_attention": FULL, "global": FULL, "*": FULL,
    "sliding_attention": SLIDING, "chunked_attention": SLIDING, "local": SLIDING,
}  # fmt: skip
_EVERY = {
    "full_attention_interval": RECURRENT,
    "attn_layer_period": RECURRENT,
    "sliding_window_pattern": SLIDING,
    "_sliding_window_pattern": SLIDING,
}
"""Each n-th layer attends to everything; the others are of another kind."""
_PATTERNS = {"gemma3_text": 6, "gemma2": 0, "gpt_oss": 2, "cohere2": 4}
"""The same, by model type, where config.json leaves it out; 0 for none that MLX makes use of."""


def kv_bytes(config: Mapping[str, Any], n_tokens: int, value_bytes: int) -> int:
    """Bytes of keys and values of one sequence; 0 if the config lacks the facts."""
    (_, inner), *_ = text_parts(config)
    part = {**config, **inner}
    window = count(part.get("sliding_window")) or n_tokens
    held = {FULL: n_tokens, SLIDING: min(window, n_tokens), RECURRENT: 0}
    width = _width(part)
    return sum(held[kind] for kind in layer_kinds(part)) * width * value_bytes


def value_bytes(device: str) -> int:
    """Bytes of each key and value on a kind of device; weights are 32 bits wide on a CPU."""
    return 2 if device == "metal" else 4


def filled(n_bytes: int) -> str:
    """What a conversation as long as the window takes, for a person."""
    return f"a conversation that fills it takes {n_bytes / 1024**3:,.2f} GiB"


def _width(part: Mapping[str, Any]) -> int:
    """Values that a layer keeps of each token."""
    if latent := count(part.get("kv_lora_rank")):
        return latent + count(part.get("qk_rope_head_dim"))
    heads = _first(part, "num_attention_heads", "n_head", "n_heads", "num_heads")
    kv_heads = _first(part, "num_key_value_heads", "n_kv_heads", "num_kv_heads") or heads
    hidden = _first(part, "hidden_size", "n_embd", "d_model", "dim")
    head_dim = _first(part, "head_dim") or (hidden // heads if heads else 0)
    return 2 * kv_heads * head_dim


def layer_kinds(part: Mapping[str, Any]) -> Iterator[str]:
    """What kind each layer is of, as far as its cache goes."""
    n_layers = _first(part, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    named = part.get("layer_types") or part.get("layers_block_type")
    named = named or part.get("hybrid_override_pattern")
    if isinstance(named, list | str) and named:
        yield from (_KINDS.get(str(each), RECURRENT) for each in named[:n_layers])
        return
    kind = str(part.get("model_type", ""))
    if (full := part.get("full_attn_idxs")) and isinstance(full, list):
        yield from (FULL if index in full else RECURRENT for index in range(n_layers))
        return
    if kind in ("mamba", "mamba2", "falcon_mamba", "rwkv7"):
        yield from (RECURRENT for _ in range(n_layers))
        return
    every, other = _PATTERNS.get(kind, 0), SLIDING
    for key, others in _EVERY.items():
        if found := count(part.get(key)):
            every, other = found, others
    for index in range(n_layers):
        yield FULL if every < 2 or index % every == every - 1 else other


def _first(part: Mapping[str, Any], *keys: str) -> int:
    return next((n for key in keys if (n := count(part.get(key)))), 0)
