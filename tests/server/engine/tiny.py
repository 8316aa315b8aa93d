"""GGUF files of a few kilobytes, written from random models of mlx-lm's own classes."""

from __future__ import annotations

import struct
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from tokenizers import pre_tokenizers

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

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
PRE = {"llama": "smollm", "qwen2": "qwen2", "qwen3": "qwen2"}


def model(architecture: str, tied: bool = True) -> Any:
    """A random model of mlx-lm."""
    module = import_module(f"mlx_lm.models.{architecture}")
    fields = {
        "model_type": architecture,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": 48,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-6,
        "vocab_size": len(TOKENS),
        "rope_theta": 5_000.0,
        "max_position_embeddings": 128,
        "tie_word_embeddings": tied,
    }
    made = module.Model(module.ModelArgs.from_dict(fields))
    mx.random.seed(7)
    made.load_weights(
        [(name, mx.random.normal(old.shape) * 0.3) for name, old in tree_flatten(made.parameters())]
    )
    return made


def permuted(rows: mx.array, n_heads: int) -> mx.array:
    """What llama.cpp's converter does to q and k: pairs of halves become neighbours."""
    halves = rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def tensors(made: Any, architecture: str) -> dict[str, mx.array]:
    """A model's weights under the names, and in the order of rows, of a GGUF."""
    found = {}
    for name, weight in tree_flatten(made.parameters()):
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        if architecture == "llama" and ("attn_q." in name or "attn_k." in name):
            weight = permuted(weight, HEADS if "attn_q." in name else KV_HEADS)
        found[name] = weight
    return found


def metadata(architecture: str, **more: Any) -> dict[str, Any]:
    """What such a file tells; `more` are keys with `__` for dots, and None takes one out."""
    kind = architecture
    told = {
        "general.architecture": kind,
        f"{kind}.embedding_length": mx.array(HIDDEN, mx.uint32),
        f"{kind}.block_count": mx.array(LAYERS, mx.uint32),
        f"{kind}.feed_forward_length": mx.array(48, mx.uint32),
        f"{kind}.context_length": mx.array(128, mx.uint32),
        f"{kind}.attention.head_count": mx.array(HEADS, mx.uint32),
        f"{kind}.attention.head_count_kv": mx.array(KV_HEADS, mx.uint32),
        f"{kind}.attention.layer_norm_rms_epsilon": mx.array(1e-6),
        f"{kind}.rope.freq_base": mx.array(5_000.0),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE.get(kind, "smollm"),
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": mx.array(
            [NORMAL] * (len(TOKENS) - len(SPECIAL)) + TYPES, mx.int32
        ),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": mx.array(START, mx.uint32),
        "tokenizer.ggml.eos_token_id": mx.array(END, mx.uint32),
        "tokenizer.chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }
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
