"""GGUF files of a few kilobytes, written from random models of mlx-lm's own classes."""

from __future__ import annotations

import re
import struct
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from tokenizers import pre_tokenizers

from mlxdeck.server.backends.local.engine.models.gguf.architectures import ARCHITECTURES

HEADS, KV_HEADS, HEAD_DIM, LAYERS = 4, 2, 8, 2
HIDDEN = HEADS * HEAD_DIM

MERGES = ["h e", "l l", "he ll", "1 2"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<tool_call>", "<|eot_id|>"]
TYPES = [3, 3, 4, 3]
TOKENS = [
    *sorted(pre_tokenizers.ByteLevel.alphabet()),
    *(merge.replace(" ", "") for merge in MERGES),
    *SPECIAL,
]
START, END, TOOL_CALL, EOT = (TOKENS.index(token) for token in SPECIAL)
NORMAL = 1

WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
PRE = {"llama": "smollm", "gpt-oss": "gpt-4o", "llama4": "llama4"}
N_LAYERS = {"gemma3": 6, "llama4": 4}
"""Where some layers are unlike others."""
EXPERTS, USED, EXPERT = 4, 2, 24
MOE = {
    "expert_count": EXPERTS,
    "expert_used_count": USED,
    "expert_feed_forward_length": EXPERT,
}
MORE: dict[str, dict[str, Any]] = {
    "qwen3moe": {
        "num_experts": EXPERTS, "num_experts_per_tok": USED, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "moe_intermediate_size": EXPERT, "norm_topk_prob": True,
    },
    "gemma3": {
        "query_pre_attn_scalar": HEAD_DIM, "sliding_window": 4, "rope_local_base_freq": 10_000.0,
    },
    "gpt-oss": {
        "num_local_experts": EXPERTS, "num_experts_per_tok": USED, "intermediate_size": EXPERT,
        "sliding_window": 4,
    },
    "llama4": {
        "num_local_experts": EXPERTS, "num_experts_per_tok": 1, "intermediate_size": EXPERT,
        "intermediate_size_mlp": 48, "interleave_moe_layer_step": 2, "use_qk_norm": True,
        "attention_bias": False, "attention_chunk_size": 64, "rope_scaling": None,
    },
}  # fmt: skip
"""What mlx-lm's classes are told beside what all are told."""


def model(architecture: str, tied: bool = True) -> Any:
    """A random model of mlx-lm."""
    kind = ARCHITECTURES[architecture].model_type
    module = import_module(f"mlx_lm.models.{kind}")
    fields: dict[str, Any] = {
        "model_type": kind,
        "hidden_size": HIDDEN,
        "num_hidden_layers": N_LAYERS.get(architecture, LAYERS),
        "intermediate_size": 48,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-6,
        "vocab_size": len(TOKENS),
        "rope_theta": 5_000.0,
        "max_position_embeddings": 128,
        "tie_word_embeddings": tied,
        **MORE.get(architecture, {}),
    }
    if kind == "llama4":
        fields = {"model_type": kind, "text_config": fields}
    made = module.Model(module.ModelArgs.from_dict(fields))
    if architecture == "gemma3":
        made.sanitize({})  # Its head is the embedding.
    mx.random.seed(7)
    made.load_weights(
        [(name, mx.random.normal(old.shape) * 0.3) for name, old in tree_flatten(made.parameters())]
    )
    return made


def permuted(rows: mx.array, n_heads: int) -> mx.array:
    """What llama.cpp's converter does to q and k: pairs of halves become neighbours."""
    halves = rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def tensors(made: Any, architecture: str, tied: bool = True) -> dict[str, mx.array]:
    """A model's weights under the names, and in the order of rows, of a GGUF."""
    known = ARCHITECTURES[architecture]
    blocks = {ours: theirs for theirs, ours in known.in_block.items()}
    found = {}
    for name, weight in tree_flatten(made.parameters()):
        name = name.removeprefix(known.prefix)
        if layer := re.fullmatch(r"model\.layers\.(\d+)\.(.*?)(?:\.(weight|bias))?", name):
            number, part, kind = layer.groups()
            theirs = f"blk.{number}.{blocks[part]}.{kind or 'weight'}"
        else:
            part, _, kind = name.rpartition(".")
            theirs = f"{WHOLE[part]}.{kind}"
        if architecture == "llama" and ("attn_q." in theirs or "attn_k." in theirs):
            weight = permuted(weight, HEADS if "attn_q." in theirs else KV_HEADS)
        if architecture == "gemma3" and "norm" in theirs:
            weight = weight + 1
        found[theirs] = weight
    return found


def metadata(architecture: str, **more: Any) -> dict[str, Any]:
    """What such a file tells; `more` are keys with `__` for dots, and None takes one out."""
    kind = architecture
    told: dict[str, Any] = {
        "general.architecture": kind,
        f"{kind}.embedding_length": mx.array(HIDDEN, mx.uint32),
        f"{kind}.block_count": mx.array(N_LAYERS.get(kind, LAYERS), mx.uint32),
        f"{kind}.feed_forward_length": mx.array(48, mx.uint32),
        f"{kind}.context_length": mx.array(128, mx.uint32),
        f"{kind}.attention.head_count": mx.array(HEADS, mx.uint32),
        f"{kind}.attention.head_count_kv": mx.array(KV_HEADS, mx.uint32),
        f"{kind}.attention.layer_norm_rms_epsilon": mx.array(1e-6),
        f"{kind}.attention.key_length": mx.array(HEAD_DIM, mx.uint32),
        f"{kind}.rope.freq_base": mx.array(5_000.0),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE.get(kind, "qwen2"),
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": mx.array(
            [NORMAL] * (len(TOKENS) - len(SPECIAL)) + TYPES, mx.int32
        ),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": mx.array(START, mx.uint32),
        "tokenizer.ggml.eos_token_id": mx.array(END, mx.uint32),
        "tokenizer.chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }
    if kind in ("qwen3moe", "gpt-oss", "llama4"):
        told |= {f"{kind}.{key}": mx.array(value, mx.uint32) for key, value in MOE.items()}
    if kind in ("gemma3", "gpt-oss"):
        told[f"{kind}.attention.sliding_window"] = mx.array(4, mx.uint32)
    if kind == "llama4":
        told[f"{kind}.interleave_moe_layer_step"] = mx.array(2, mx.uint32)
        told[f"{kind}.expert_used_count"] = mx.array(1, mx.uint32)
    told |= {key.replace("__", "."): value for key, value in more.items()}
    return {key: value for key, value in told.items() if value is not None}


def write(path: Path, architecture: str = "llama", tied: bool = True, **more: Any) -> Any:
    """Write a file and return the model that it holds."""
    made = model(architecture, tied)
    mx.save_gguf(str(path), tensors(made, architecture), metadata(architecture, **more))
    return made


def raw(*kinds: int, version: int = 3, n_tensors: int | None = None) -> bytes:
    """The head of a file with a tensor of each numbered type, 2 x 256, and values to step over."""
    values = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("a.number") + struct.pack("<If", 6, 0.5),
        text("some.numbers") + struct.pack("<IIQ3I", 9, 4, 3, 1, 2, 3),
        text("some.texts") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
    ]
    infos = [
        text(f"t{index}.weight") + struct.pack("<IQQIQ", 2, 256, 2, kind, 0)
        for index, kind in enumerate(kinds)
    ]
    counts = struct.pack("<IQQ", version, n_tensors or len(kinds), len(values))
    return b"GGUF" + counts + b"".join(values + infos)


def padded(head: bytes, content: bytes) -> bytes:
    """A whole file: what the tensors hold begins at a multiple of 32 bytes."""
    return head + b"\0" * (-len(head) % 32) + content


def text(value: str) -> bytes:
    """A string as the format holds it."""
    return struct.pack("<Q", len(value)) + value.encode()
