"""A GGUF file's tokenizer as the files that transformers reads, without needing torch.

Only byte-level BPE (`tokenizer.ggml.model` gpt2) is supported, which all of Llama 3, SmolLM and
Qwen use. Token types are llama.cpp's: 3 is control, 4 is user-defined.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from mlxdeck.server.errors import EngineFailed

CONTROL, USER_DEFINED = 3, 4

# How text is cut before merging; as published in the models' own tokenizer.json files.
_SPLITS = {
    "llama-bpe": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
# Tokens at which a model ends its turn, whichever one its metadata names.
_END_OF_TURN = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")


def write_tokenizer(metadata: dict[str, Any], context_tokens: int, target: Path) -> list[int]:
    """Write `tokenizer.json` and `tokenizer_config.json`; return the ids that end an answer.

    Raises:
        EngineFailed: The file has another kind of tokenizer.
        KeyError: The file lacks a part of it.
    """
    if metadata["tokenizer.ggml.model"] != "gpt2":
        kind = metadata["tokenizer.ggml.model"]
        raise EngineFailed(f"GGUF tokenizers of kind {kind!r} are not supported, only gpt2 (BPE)")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata["tokenizer.ggml.token_type"]
    tokenizer = _tokenizer(metadata, tokens)
    for token, kind in zip(tokens, types, strict=True):
        if kind in (CONTROL, USER_DEFINED):
            special = kind == CONTROL
            tokenizer.add_tokens([AddedToken(token, special=special, normalized=False)])
    tokenizer.save(str(target / "tokenizer.json"))

    def named(key: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{key}")
        return tokens[index] if index is not None else None

    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": named("bos_token_id"),
        "eos_token": named("eos_token_id"),
        "pad_token": named("padding_token_id"),
        "add_bos_token": bool(metadata.get("tokenizer.ggml.add_bos_token", False)),
        "model_max_length": context_tokens,
        "clean_up_tokenization_spaces": False,
        "chat_template": metadata.get("tokenizer.chat_template"),
    }
    (target / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in config.items() if v is not None}, ensure_ascii=False),
        encoding="utf-8",
    )
    control = {
        t: i for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind == CONTROL
    }
    ends = {metadata["tokenizer.ggml.eos_token_id"]}
    return sorted(ends | {control[token] for token in _END_OF_TURN if token in control})


def _tokenizer(metadata: dict[str, Any], tokens: list[str]) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=False))
    kind = metadata.get("tokenizer.ggml.pre", "default")
    if kind in _SPLITS:
        first: Any = pre_tokenizers.Split(Regex(_SPLITS[kind]), behavior="isolated")
        cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    elif kind in ("smollm", "default", "gpt-2"):
        first = pre_tokenizers.Digits(individual_digits=kind == "smollm")
        cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        raise EngineFailed(f"GGUF pre-tokenizer {kind!r} is not supported")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, cut])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
