"""A GGUF file's tokenizer as the files that transformers reads, without torch.

There are two kinds (`tokenizer.ggml.model`). `gpt2` is byte-level BPE, which Llama 3, Qwen and
gpt-oss use. `llama` is SentencePiece's pieces, which Gemma and the first Llamas use. Token types
are llama.cpp's: 1 is normal, 3 is control, 4 is user-defined.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
_MODEL = "tokenizer.ggml.model"
_MODELS = {"gpt2": ("merges",), "llama": ("scores",)}
"""Kinds of tokenizer, and what each needs beside its tokens."""

# How text is cut before merging; as published in the models' own tokenizer.json files.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {
    "gpt-2": None,
    "smollm": None,
    "gpt-4o": _O200K,
    "llama4": _O200K,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}
# A model ends its turn at these, whichever one its metadata names.
_END_IDS = ("eos_token_id", "eot_token_id", "eom_token_id")
_END_OF_TURN = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    *("<end_of_turn>", "<|return|>", "<|call|>", "<|eot|>", "<|eom|>"),
)


def tokenizer_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    """What keeps a file's tokenizer from being written."""
    model = metadata.get(_MODEL)
    if model not in _MODELS:
        yield f"its tokenizer is of kind {model!r} (supported: {', '.join(_MODELS)})"
        return
    keys = [f"tokenizer.ggml.{key}" for key in ("tokens", "token_type", *_MODELS[model])]
    if missing := [key for key in keys if not isinstance(metadata.get(key), list)]:
        yield f"it lacks the metadata {', '.join(missing)}"
        return
    if len({len(metadata[key]) for key in keys if not key.endswith("merges")}) > 1:
        yield "its lists of tokens differ in length"
        return
    pre = metadata.get("tokenizer.ggml.pre")
    if model == "gpt2" and pre not in _SPLITS:
        said = "not named, as in old files" if pre is None else repr(pre)
        yield f"its pre-tokenizer is {said} (supported: {', '.join(_SPLITS)})"
    if not _ends(metadata):
        told = metadata.get("tokenizer.ggml.eos_token_id")
        n_tokens = len(metadata["tokenizer.ggml.tokens"])
        yield f"its end of an answer, token {told}, is none of its {n_tokens:,} tokens"


def _ends(metadata: Mapping[str, Any]) -> list[int]:
    """The ids that end an answer."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    named = [_id(metadata, key) for key in _END_IDS]
    control = {t: i for i, (t, kind) in enumerate(zip(tokens, types, strict=True))
               if kind == CONTROL}  # fmt: skip
    known = [control[token] for token in _END_OF_TURN if token in control]
    return sorted({index for index in named if index is not None} | set(known))


def _id(metadata: Mapping[str, Any], key: str) -> int | None:
    """A token that the metadata names, if it is one."""
    index = metadata.get(f"tokenizer.ggml.{key}")
    is_token = isinstance(index, int) and 0 <= index < len(metadata["tokenizer.ggml.tokens"])
    return int(index) if is_token and index is not None else None


def write_tokenizer(metadata: Mapping[str, Any], context_tokens: int, target: Path) -> list[int]:
    """Write `tokenizer.json` and `tokenizer_config.json`; return the ids that end an answer.

    `tokenizer_faults` must have found none.
    """
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata["tokenizer.ggml.token_type"]
    is_bpe = metadata[_MODEL] == "gpt2"
    tokenizer = _byte_level(metadata, tokens) if is_bpe else _sentencepiece(metadata, tokens)
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )

    def named(key: str) -> str | None:
        index = _id(metadata, key)
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
    return _ends(metadata)


def _begins_with_bos(metadata: Mapping[str, Any]) -> bool:
    """Whether plain text starts with the bos token; files may leave it unsaid."""
    split = _SPLITS.get(metadata.get("tokenizer.ggml.pre", ""))
    unsaid = split == _LLAMA3 or metadata[_MODEL] == "llama"
    return bool(metadata.get("tokenizer.ggml.add_bos_token", unsaid))


def _byte_level(metadata: Mapping[str, Any], tokens: list[str]) -> Tokenizer:
    kind = metadata["tokenizer.ggml.pre"]
    split = _SPLITS[kind]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    # Llama 3 takes a word that is a token as it is, whether or not merges lead to it.
    bpe = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split in (_LLAMA3, _O200K))
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


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str]) -> Tokenizer:
    """Pieces with scores, as merges in the order of the scores, which is equivalent."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    scores = metadata["tokenizer.ggml.scores"]
    ranked = []
    for index, (piece, kind) in enumerate(
        zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True)
    ):
        if kind in (NORMAL, USER_DEFINED):
            cuts = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
            found = [pair for pair in cuts if pair[0] in vocabulary and pair[1] in vocabulary]
            found.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
            ranked += [(-scores[index], index, pair) for pair in found]
    merges = [pair for _, _, pair in sorted(ranked, key=lambda each: each[:2])]
    unknown = _id(metadata, "unknown_token_id")
    bpe = models.BPE(
        vocab=vocabulary,
        merges=merges,
        unk_token=tokens[unknown] if unknown is not None else None,
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(bpe)
    space: Any = normalizers.Replace(" ", "\u2581")
    decoded = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        space = normalizers.Sequence([normalizers.Prepend("\u2581"), space])
        decoded.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = space
    tokenizer.decoder = decoders.Sequence(decoded)
    return tokenizer
