"""A GGUF file as a folder that mlx-lm can load.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. All of it runs on the calling
thread, a tensor at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlxdeck.server.backends.local.engine.models.gguf.architectures import (
    ARCHITECTURES,
    NEEDED,
    UNUSED,
    model_config,
    new_name,
)
from mlxdeck.server.backends.local.engine.models.gguf.header import read_header
from mlxdeck.server.backends.local.engine.models.gguf.tensors import (
    GROUP_SIZE,
    TENSOR_TYPES,
    converted,
)
from mlxdeck.server.backends.local.engine.models.gguf.tokenizer import (
    tokenizer_faults,
    write_tokenizer,
)
from mlxdeck.server.errors import EngineFailed, one_line

MAX_FILE_BYTES = 4 << 30
"""About so much goes into one file of weights."""


def convert(source: Path, target: Path) -> None:
    """Write config, weights and tokenizer of `source` into the existing folder `target`.

    Raises:
        EngineFailed: It is no GGUF file, or parts of it aren't supported: the text names all of
            them.
    """
    try:
        header = read_header(source)
    except (ValueError, OSError) as error:
        reason = str(error) if isinstance(error, ValueError) else one_line(error)
        raise EngineFailed(f"{source.name} is no readable GGUF file: {reason}") from error
    metadata = header.metadata
    if faults := list(_faults(metadata, header.types, header.shapes)):
        raise EngineFailed(f"{source.name} can't be converted: {'; '.join(faults)}")
    try:
        tensors = _tensors(source)
        largest = tensors.get("rope_freqs.weight")
        factor = float(np.max(largest.data)) if largest is not None else 0.0
        config = model_config(metadata, header.shapes, rope_scaling(metadata, factor))
        eos = write_tokenizer(metadata, metadata[_key(metadata, "context_length")], target)
        quantized = _write_weights(metadata, tensors, target)
    # The library has no exception types of its own: a damaged file raises any exception.
    except Exception as error:
        raise EngineFailed(
            f"{source.name} can't be converted: {one_line(error)}; copy or download it again"
        ) from error
    _write_json(target / "config.json", {**config, **quantized, "eos_token_id": eos})


def _tensors(source: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {tensor.name: tensor for tensor in GGUFReader(source).tensors}


def _faults(
    metadata: Mapping[str, Any], types: Mapping[str, str], shapes: Mapping[str, Any]
) -> Iterator[str]:
    """All that keeps a file from being converted, the architecture first."""
    kind = metadata.get("general.architecture")
    architecture = ARCHITECTURES.get(str(kind))
    if architecture is None:
        yield f"its architecture is {kind!r} (supported: {', '.join(ARCHITECTURES)})"
    n_parts = metadata.get("split.count", 1)
    if n_parts != 1:
        yield f"it is one of {n_parts} parts (llama-gguf-split --merge joins them)"
    unread = Counter(each for each in types.values() if each not in TENSOR_TYPES)
    for each, n_tensors in unread.most_common():
        first = next(name for name, its_kind in types.items() if its_kind == each)
        yield f"{n_tensors} tensors are of type {each}, such as {first}"
    if unread:
        yield f"supported types are {', '.join(TENSOR_TYPES)}"
    yield from tokenizer_faults(metadata)
    if architecture is None:
        return
    missing = [f"{kind}.{key}" for key in (*NEEDED, *architecture.needs)]
    missing = [key for key in missing if key not in metadata]
    if missing:
        yield f"it lacks the metadata {', '.join(missing)}"
        return
    if "token_embd.weight" not in shapes:
        yield "it has no tensor token_embd.weight"
    unknown = [name for name in shapes if name not in UNUSED and not new_name(name, architecture)]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        yield f"it has the unknown tensor {unknown[0]}{more}"
    yield from _rope_faults(metadata)


def _rope_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    scaling = metadata.get(_key(metadata, "rope.scaling.type"), "none")
    if scaling not in ("none", "linear", "yarn"):
        yield f"its rope scaling is of type {scaling!r}"
    heads = metadata[_key(metadata, "attention.head_count")]
    if not isinstance(heads, int) or not heads:
        yield "its layers have different numbers of heads"
        return
    hidden = metadata[_key(metadata, "embedding_length")]
    head_dim = metadata.get(_key(metadata, "attention.key_length"), hidden // heads)
    if metadata.get(_key(metadata, "rope.dimension_count"), head_dim) != head_dim:
        yield "it rotates only a part of each head"


def _key(metadata: Mapping[str, Any], name: str) -> str:
    return f"{metadata['general.architecture']}.{name}"


def rope_scaling(metadata: Mapping[str, Any], largest_factor: float) -> dict[str, Any] | None:
    """How positions are stretched: as in Llama 3, by its largest factor; linearly; or by YaRN."""
    if largest_factor:
        return {
            "rope_type": "llama3",
            "factor": largest_factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 1.0 if metadata["general.architecture"] == "llama4" else 4.0,
            "original_max_position_embeddings": 8192,
        }
    scaling = _key(metadata, "rope.scaling")
    kind = metadata.get(f"{scaling}.type", "none")
    if kind == "none":
        return None
    stretched = {"rope_type": kind, "factor": metadata[f"{scaling}.factor"]}
    if kind == "yarn":
        original = metadata[f"{scaling}.original_context_length"]
        stretched["original_max_position_embeddings"] = original
    return stretched


def _write_weights(
    metadata: Mapping[str, Any], tensors: Mapping[str, Any], target: Path
) -> dict[str, Any]:
    """Write the tensors, in several files if they are large; return how they are quantised."""
    architecture = ARCHITECTURES[metadata["general.architecture"]]
    heads = metadata[_key(metadata, "attention.head_count")]
    n_rows_of = {"attn_q": heads, "attn_k": metadata.get(_key(metadata, "attention.head_count_kv"))}
    files: list[dict[str, mx.array]] = [{}]
    n_bytes = 0
    layers: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name in UNUSED:
            continue
        parts, quantized = converted(tensor.tensor_type.name, np.asarray(tensor.data))
        own = str(new_name(name, architecture))
        part = name.split(".")[-2]
        for kind, array in parts.items():
            if part in architecture.interleaved:
                array = unpermuted(array, n_rows_of[part] or heads)
            if architecture.norm_offset and own.endswith("norm.weight"):
                array = array - architecture.norm_offset
            if n_bytes + array.nbytes > MAX_FILE_BYTES and files[-1]:
                files.append({})
                n_bytes = 0
            n_bytes += array.nbytes
            files[-1][own if kind == "weight" else f"{own.removesuffix('.weight')}.{kind}"] = array
        if quantized:
            layers[own.removesuffix(".weight")] = quantized
    for number, arrays in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}" if len(files) > 1 else "model"
        mx.save_safetensors(str(target / f"{name}.safetensors"), arrays, {"format": "mlx"})
    return quantization(layers)


def unpermuted(tensor: mx.array, n_heads: int) -> mx.array:
    """Undo the change of llama.cpp's converter to the rows of Llama's q and k.

    It interleaves the two halves of each head, for llama.cpp's rotation; mlx-lm rotates halves.
    """
    rows, *rest = tensor.shape
    halves = tensor.reshape(n_heads, rows // n_heads // 2, 2, *rest).swapaxes(1, 2)
    return halves.reshape(tensor.shape)


def quantization(layers: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Describe the quantisation of layers: the most common one, and the others as exceptions."""
    if not layers:
        return {}
    ways = Counter(tuple(sorted(way.items())) for way in layers.values())
    common = dict(ways.most_common(1)[0][0])
    rule: dict[str, Any] = dict(common)
    rule |= {layer: way for layer, way in layers.items() if way != common}
    return {"quantization": {"group_size": GROUP_SIZE, **rule}}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
