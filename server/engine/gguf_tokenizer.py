"""A GGUF file's tokenizer as the files that transformers reads, without needing torch.

Only byte-level BPE (`tokenizer.ggml.model` gpt2) is supported, which all of Llama 3, SmolLM and
Qwen use. Token types are llama.cpp's: 3 is control, 4 is user-defined.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from mlxdeck.server.errors import EngineFailed

CONTROL, USER_DEFINED = 3, 4

# How text is cut before merging; as published in the models' own tokenizer.json files.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_SPLITS = {
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}
# A model ends its turn at these, whichever one its metadata names.
_END_IDS = ("eos_token_id", "eot_token_id", "eom_token_id")
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
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )

    def named(key: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{key}")
        return tokens[index] if index is not None else None

    bos = named("bos_token_id")
    begins = bos is not None and _begins_with_bos(metadata)
    if begins:
        # transformers takes no notice of `add_bos_token` when it loads this class.
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"],
            pair=[bos, "$A", bos, "$B"],
            special_tokens=[(bos, metadata["tokenizer.ggml.bos_token_id"])],
        )
    tokenizer.save(str(target / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": named("eos_token_id"),
        "pad_token": named("padding_token_id"),
        "add_bos_token": begins,
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
    ends |= {metadata[key] for key in map("tokenizer.ggml.{}".format, _END_IDS) if key in metadata}
    return sorted(ends | {control[token] for token in _END_OF_TURN if token in control})


def _begins_with_bos(metadata: dict[str, Any]) -> bool:
    """Whether plain text starts with the bos token; Llama 3's files may leave it unsaid."""
    unsaid = _SPLITS.get(metadata.get("tokenizer.ggml.pre", "")) == _LLAMA3
    return bool(metadata.get("tokenizer.ggml.add_bos_token", unsaid))


def _tokenizer(metadata: dict[str, Any], tokens: list[str]) -> Tokenizer:
    kind = metadata.get("tokenizer.ggml.pre", "of an old file that doesn't name it")
    split = _SPLITS.get(kind)
    if split is None and kind not in ("smollm", "gpt-2"):
        raise EngineFailed(f"GGUF pre-tokenizer {kind} is not supported")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    # Llama 3 takes a word that is a token as it is, whether or not merges lead to it.
    bpe = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split == _LLAMA3)
    tokenizer = Tokenizer(bpe)
    if split == _QWEN2:
        tokenizer.normalizer = normalizers.NFC()
    cut: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)]
    if split is not None:
        cut.insert(0, pre_tokenizers.Split(Regex(split), behavior="isolated"))
    elif kind == "smollm":
        cut.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cut)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
