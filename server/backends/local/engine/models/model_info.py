"""Facts from a model's folder: its context window, its sampling, a signature of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxdeck.server.backends.local.engine.api import ModelInfo
from mlxdeck.server.backends.local.engine.models.context_window import number
from mlxdeck.server.backends.local.engine.models.kv_size import filled, kv_bytes, value_bytes
from mlxdeck.server.backends.local.engine.models.model_folder import ModelFolder, is_regular

# Weights are too large to hash whole at every start.
N_SAMPLES, SAMPLE_BYTES = 256, 4096
SMALL = {".json", ".jinja", ".txt", ".model", ".tiktoken"}
MAX_SMALL_BYTES = 1 << 28


def model_info(name: str, path: Path, folder: ModelFolder, asked_tokens: int) -> ModelInfo:
    """Describe a loaded model, whose own folder is `path`; `asked_tokens` is the user's window."""
    window = folder.window.narrowed(asked_tokens)
    temperature, top_p, top_k = sampling(folder.generation_config)
    device = "metal" if mx.default_device() == mx.Device(mx.gpu) else "cpu"
    return ModelInfo(
        name=name,
        path=str(path),
        signature=signature(folder.path),
        context_tokens=window.tokens,
        context_source=window.source,
        context_is_guess=window.is_guess,
        kv_bytes=kv_bytes(folder.config, window.tokens, value_bytes(device)),
        templates=tuple(folder.templates.by_name),
        template=folder.templates.chosen,
        device=device,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
    )


def context_line(info: ModelInfo) -> str:
    """The context window for a person, and the memory of a sequence that fills it."""
    guess = " (a guess)" if info.context_is_guess and "guess" not in info.context_source else ""
    line = f"context: {info.context_tokens:,} tokens by {info.context_source}{guess}"
    if info.kv_bytes:
        line += f"; {filled(info.kv_bytes)}"
    if info.context_is_guess and "--context-tokens" not in info.context_source:
        line += "; --context-tokens may raise it"
    return line


def sampling(told: Mapping[str, Any]) -> tuple[float, float, int]:
    """Temperature, top-p and top-k of a generation_config.json; invalid values are left out."""
    given = "temperature" in told
    temperature = number(told.get("temperature"))
    if not 0 <= temperature <= 5 or told.get("temperature") is None:
        temperature = 1.0
    sampled = told.get("do_sample")
    if sampled is None:
        sampled = given
    top_p = number(told.get("top_p"))
    top_k = number(told.get("top_k"))
    return (
        temperature if sampled is True else 0.0,
        top_p if 0 < top_p <= 1 else 1.0,
        int(top_k) if 0 < top_k < 1 << 31 else 0,
    )


def signature(path: Path) -> str:
    """Hash what decides answers: the small files whole, of the weights the header and samples.

    Equal on every machine that holds the same files, so that machines may share answers.
    """
    digest = hashlib.sha256()
    for file in sorted(each for each in path.iterdir() if is_regular(each)):
        n_bytes = file.stat().st_size
        if file.suffix in SMALL and n_bytes < MAX_SMALL_BYTES:
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        elif file.suffix == ".safetensors":
            digest.update(f"{file.name}\0{n_bytes}".encode())
            with file.open("rb") as weights:
                for at in range(0, n_bytes, max(SAMPLE_BYTES, n_bytes // N_SAMPLES)):
                    weights.seek(at)
                    digest.update(weights.read(SAMPLE_BYTES))
    return digest.hexdigest()
