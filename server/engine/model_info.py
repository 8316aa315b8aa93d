"""What a model's folder says about it: its window, its sampling, and a signature of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxdeck.server.engine import ModelInfo

# Weights are too large to hash whole at every start.
N_SAMPLES, SAMPLE_BYTES = 256, 4096


def model_info(name: str, path: Path, config: Mapping[str, Any], context_tokens: int) -> ModelInfo:
    """Describe a loaded model; `context_tokens` narrows its own window, never widens it."""
    text = config.get("text_config", config)
    own = int(text.get("max_position_embeddings", 0)) or 8192
    defaults = {}
    if (file := path / "generation_config.json").exists():
        defaults = json.loads(file.read_text(encoding="utf-8"))
    sampled = defaults.get("do_sample", "temperature" in defaults)
    return ModelInfo(
        name=name,
        path=str(path),
        signature=signature(path),
        context_tokens=min(own, context_tokens or own),
        device="metal" if mx.default_device() == mx.Device(mx.gpu) else "cpu",
        temperature=float(defaults.get("temperature") or 1.0) if sampled else 0.0,
        top_p=float(defaults.get("top_p") or 1.0),
        top_k=int(defaults.get("top_k") or 0),
    )


def signature(path: Path) -> str:
    """Hash what decides answers: the small files whole, of the weights the header and samples.

    Equal on every machine that holds the same files, so that machines may share answers.
    """
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        n_bytes = file.stat().st_size
        if file.suffix in {".json", ".jinja", ".txt", ".model"} and n_bytes < 1 << 26:
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        elif file.suffix == ".safetensors":
            digest.update(f"{file.name}\0{n_bytes}".encode())
            with file.open("rb") as weights:
                for at in range(0, n_bytes, max(SAMPLE_BYTES, n_bytes // N_SAMPLES)):
                    weights.seek(at)
                    digest.update(weights.read(SAMPLE_BYTES))
    return digest.hexdigest()
