"""GGUF files become folders that mlx-lm loads, or errors that say what is wrong with them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from tokenizers import Tokenizer

from mlxdeck.server.engine import gguf, models
from mlxdeck.server.engine.gguf_header import tensor_types
from mlxdeck.server.errors import EngineFailed
from tests.server.engine import tiny


def converted(tmp_path: Path, **write: Any) -> Path:
    """The folder made of a tiny file."""
    tiny.write(tmp_path / "tiny.gguf", **write)
    gguf.convert(tmp_path / "tiny.gguf", tmp_path)
    return tmp_path


def config(tmp_path: Path, **write: Any) -> dict[str, Any]:
    """`config.json` of that folder."""
    made: dict[str, Any] = json.loads((converted(tmp_path, **write) / "config.json").read_text())
    return made


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", gguf.ARCHITECTURES)
def test_converted_model_computes_what_the_original_does(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    """Names, order of rows, biases, norms, rope and eps all have to be right for that."""
    made = tiny.write(tmp_path / "tiny.gguf", architecture, tied)
    gguf.convert(tmp_path / "tiny.gguf", tmp_path)
    loaded, tokenizer, _ = models.load_weights(tmp_path)
    prompt = mx.array([tokenizer.encode("hello, 12 <|im_end|>", add_special_tokens=False)])
    ours, theirs = (np.array(each(prompt).astype(mx.float32)) for each in (loaded, made))
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(32, 6), (32,)], ids=["weight", "bias"])
def test_unpermuted_undoes_the_permutation(shape: tuple[int, ...]) -> None:
    """Row by row, also where a row is one number; scales and biases are rows like any other."""
    rows = mx.arange(int(np.prod(shape))).reshape(shape)
    shuffled = tiny.permuted(rows, tiny.HEADS)
    assert not mx.array_equal(shuffled, rows)
    assert mx.array_equal(gguf.unpermuted(shuffled, tiny.HEADS), rows)


def test_llama_cpp_order_of_rows_is_the_one_undone() -> None:
    """One head of four rows: its pairs (0, 2) and (1, 3) lie next to each other in the file."""
    assert gguf.unpermuted(mx.array([0, 2, 1, 3]), 1).tolist() == [0, 1, 2, 3]


def test_quantization_names_the_exceptions() -> None:
    """The commonest number of bits is the rule."""
    weights = {}
    for name, bits in (("a", 4), ("b", 4), ("c", 8)):
        weights[f"{name}.weight"] = mx.zeros((2, 64 * bits // 32), mx.uint32)
        weights[f"{name}.scales"] = mx.zeros((2, 64 // gguf.GROUP_SIZE))
    assert gguf.quantization(weights)["quantization"] == {
        "group_size": 32,
        "bits": 4,
        "c": {"group_size": 32, "bits": 8},
    }
    assert gguf.quantization({"a.weight": mx.zeros((2, 2))}) == {}


def test_config_tells_the_shape_and_every_end_of_turn(tmp_path: Path) -> None:
    """The end that the file names, and the known control tokens that it doesn't."""
    made = config(tmp_path)
    assert made["max_position_embeddings"] == 128
    assert made["vocab_size"] == len(tiny.TOKENS)
    assert made["head_dim"] == tiny.HEAD_DIM
    assert made["rope_theta"] == 5_000.0
    assert made["tie_word_embeddings"] is True
    assert made["eos_token_id"] == [tiny.END, tiny.EOT]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, None),
        ({"llama__rope__scaling__type": "none"}, None),
        (
            {
                "llama__rope__scaling__type": "linear",
                "llama__rope__scaling__factor": mx.array(2.0),
            },
            {"rope_type": "linear", "factor": 2.0},
        ),
        (
            {
                "llama__rope__scaling__type": "yarn",
                "llama__rope__scaling__factor": mx.array(4.0),
                "llama__rope__scaling__original_context_length": mx.array(32, mx.uint32),
            },
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        ),
    ],
    ids=["absent", "none", "linear", "yarn"],
)
def test_rope_scaling_is_kept(
    more: dict[str, Any], wanted: dict[str, Any] | None, tmp_path: Path
) -> None:
    """In mlx-lm's words, and the folder loads with it."""
    assert config(tmp_path, **more)["rope_scaling"] == wanted
    models.load_weights(tmp_path)


def test_llama3_stretches_by_the_largest_factor(tmp_path: Path) -> None:
    """Which its files hold as a tensor, not as metadata."""
    found = gguf.rope_scaling({}, {"rope_freqs.weight": mx.array([1.0, 32.0, 8.0])})
    assert found is not None
    assert (found["rope_type"], found["factor"]) == ("llama3", 32.0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"general__architecture": "gemma3"}, "'gemma3'; supported: llama, qwen2, qwen3"),
        ({"llama__context_length": None}, "lacks the metadata 'llama.context_length'"),
        ({"tokenizer__ggml__model": "llama"}, "kind 'llama' are not supported"),
        ({"tokenizer__ggml__pre": "tekken"}, "pre-tokenizer tekken is not supported"),
        ({"tokenizer__ggml__pre": None}, "old file that doesn't name it"),
        ({"llama__rope__scaling__type": "longrope"}, "'longrope' is not supported"),
        ({"llama__rope__dimension_count": mx.array(4, mx.uint32)}, "only a part of each head"),
    ],
)
def test_what_is_not_supported_is_named(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Before anything is written that mlx-lm would fail on, or answer nonsense with."""
    with pytest.raises(EngineFailed, match=words):
        converted(tmp_path, **more)
    assert not (tmp_path / "config.json").exists()


def test_unknown_tensor_is_named(tmp_path: Path) -> None:
    """A layer that would be left out is an error, such as a mixture's experts."""
    tensors = tiny.tensors(tiny.model("llama"), "llama")
    tensors["blk.0.ffn_gate_exps.weight"] = mx.zeros((2, 2))
    mx.save_gguf(str(tmp_path / "t.gguf"), tensors, tiny.metadata("llama"))
    with pytest.raises(EngineFailed, match="unknown tensor blk.0.ffn_gate_exps.weight"):
        gguf.convert(tmp_path / "t.gguf", tmp_path)


@pytest.mark.parametrize(
    ("number", "name"), [(12, "Q4_K"), (13, "Q5_K"), (39, "MXFP4"), (99, "number 99")]
)
def test_tensor_type_that_mlx_cannot_read_is_named(number: int, name: str, tmp_path: Path) -> None:
    """MLX would drop such a tensor, misread it, or fail without a name."""
    (tmp_path / "t.gguf").write_bytes(tiny.raw(2, number))
    words = f"1 tensors of type {name}, such as t1.weight; supported: F32"
    with pytest.raises(EngineFailed, match=words):
        gguf.convert(tmp_path / "t.gguf", tmp_path)


@pytest.mark.parametrize(
    ("number", "block", "stored"),
    [(2, 18, "0038" + "78" * 16), (3, 20, "0038" + "00c0" + "9a" * 16), (8, 34, "0038" + "02" * 32)]
    + [(30, 2, "803f"), (1, 2, "003c"), (0, 4, "0000803f")],
    ids=["Q4_0", "Q4_1", "Q8_0", "BF16", "F16", "F32"],
)
def test_tensor_types_are_read_rightly(
    number: int, block: int, stored: str, tmp_path: Path
) -> None:
    """Worked out by hand: scale 0.5, offset -2; the low half of each byte comes first."""
    wanted = {
        2: [0.0] * 16 + [-0.5] * 16,
        3: [3.0] * 16 + [2.5] * 16,
        8: [1.0] * 32,
    }.get(number, [1.0] * 32)
    one = bytes.fromhex(stored)
    assert len(one) == block
    content = one * (2 * 256 // (32 if block > 4 else 1))
    (tmp_path / "t.gguf").write_bytes(tiny.padded(tiny.raw(number), content))
    read: Any = mx.load(str(tmp_path / "t.gguf"))
    weight = read["t0.weight"]
    if "t0.scales" in read:
        bits = 8 if number == 8 else 4
        weight = mx.dequantize(weight, read["t0.scales"], read["t0.biases"], 32, bits)
    assert weight.astype(mx.float32)[1, :32].tolist() == wanted


def test_header_tells_every_tensor(tmp_path: Path) -> None:
    """Whatever kinds of value come before them."""
    (tmp_path / "t.gguf").write_bytes(tiny.raw(0, 14, 30))
    types = {"t0.weight": "F32", "t1.weight": "Q6_K", "t2.weight": "BF16"}
    assert tensor_types(tmp_path / "t.gguf") == types


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin as one"),
        (b"PK\x03\x04 something else", "does not begin as one"),
        (tiny.raw(0, version=1), "of version 1"),
        (tiny.raw(0)[:-4], "ends before its header does"),
        (tiny.raw(0)[:30], "ends before its header does"),
        (tiny.raw(0, n_tensors=1 << 60), "ends before its header does"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63), "header is damaged"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1 << 40), "header is damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + tiny.text("a") + b"\x0c", "ends before"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + tiny.text("a") + struct.pack("<Id", 12, 0.5),
            "MLX 0.32 crashes",
        ),
        (tiny.raw(0), "no readable GGUF"),
    ],
    ids=[
        "empty",
        "zip",
        "version",
        "cut",
        "early",
        "count",
        "text",
        "name",
        "kind",
        "double",
        "no data",
    ],
)
def test_broken_file_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    """In words, and without taking memory for lengths that can't be true."""
    (tmp_path / "t.gguf").write_bytes(content)
    with pytest.raises(EngineFailed, match=words):
        gguf.convert(tmp_path / "t.gguf", tmp_path)


CUTS = {
    "smollm": ["he", "1", "2", "3", "4", "Ġ", "5"],
    "gpt-2": ["he", "12", "3", "4", "Ġ", "5"],
    "qwen2": ["he", "1", "2", "3", "4", "Ġ", "5"],
    "llama-bpe": ["he", "12", "3", "4", "Ġ", "5"],
}


@pytest.mark.parametrize("pre", CUTS)
def test_text_is_cut_as_the_file_says(pre: str, tmp_path: Path) -> None:
    """Digits are where they differ: one by one, in threes, or as long as they run."""
    converted(tmp_path, tokenizer__ggml__pre=pre)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("he1234 5", add_special_tokens=False).tokens == CUTS[pre]


TEXTS = [
    "hello hello",
    " leading",
    "trailing \n",
    "\n\n\tx\r\n",
    "  two  spaces",
    "def f(x):\n    return x ** 2  # naïve",
    "日本語 🎉🇫🇷",
    "1234567890 3.14e-10",
    "I'LL we've it's",
]


@pytest.mark.parametrize("pre", CUTS)
@pytest.mark.parametrize("said", TEXTS)
def test_text_comes_back(said: str, pre: str, tmp_path: Path) -> None:
    """Byte-level BPE loses nothing, whatever the cuts are."""
    converted(tmp_path, tokenizer__ggml__pre=pre)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode(said, add_special_tokens=False).ids) == said


def test_only_control_tokens_are_special(tmp_path: Path) -> None:
    """Both are one token each; what the file calls the user's own is text that is shown."""
    tokenizer = Tokenizer.from_file(str(converted(tmp_path) / "tokenizer.json"))
    ids = tokenizer.encode("he<|im_end|><tool_call>", add_special_tokens=False).ids
    assert ids[1:] == [tiny.END, tiny.TOOL_CALL]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "he<tool_call>"


@pytest.mark.parametrize(
    ("more", "begins"),
    [
        ({}, False),
        ({"tokenizer__ggml__add_bos_token": mx.array(True)}, True),
        ({"tokenizer__ggml__pre": "llama-bpe"}, True),
    ],
)
def test_bos_is_added_where_the_file_asks(
    more: dict[str, Any], begins: bool, tmp_path: Path
) -> None:
    """To plain text; Llama 3 asks for it by being Llama 3."""
    _, tokenizer, _ = models.load_weights(converted(tmp_path, **more))
    assert (tokenizer.encode("he")[0] == tiny.START) == begins
