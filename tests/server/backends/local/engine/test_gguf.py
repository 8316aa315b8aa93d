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

from mlxdeck.server.backends.local.engine.models import loader
from mlxdeck.server.backends.local.engine.models.gguf import conversion
from mlxdeck.server.backends.local.engine.models.gguf.architectures import ARCHITECTURES
from mlxdeck.server.backends.local.engine.models.gguf.header import read_header
from mlxdeck.server.backends.local.engine.models.gguf.tensors import (
    KEPT,
    MXFP4,
    TENSOR_TYPES,
    WORKED_OUT,
    packed,
)
from mlxdeck.server.backends.local.engine.models.gguf.tensors import converted as converted_tensor
from mlxdeck.server.backends.local.engine.models.gguf.tokenizer import (
    tokenizer_faults,
    write_tokenizer,
)
from mlxdeck.server.errors import EngineFailed
from tests.server.backends.local.engine import tiny
from tests.zoo.vocabularies import VOCABULARIES, Unavailable


def converted(tmp_path: Path, **write: Any) -> Path:
    """The folder made of a tiny file."""
    tiny.write(tmp_path / "tiny.gguf", **write)
    conversion.convert(tmp_path / "tiny.gguf", tmp_path)
    return tmp_path


def config(tmp_path: Path, **write: Any) -> dict[str, Any]:
    """`config.json` of that folder."""
    made: dict[str, Any] = json.loads((converted(tmp_path, **write) / "config.json").read_text())
    return made


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_converted_model_computes_what_the_original_does(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    """Names, order of rows, biases, norms, rope and eps all have to be right for that."""
    if tied and architecture in ("gpt-oss", "llama4"):
        pytest.skip("it has no tied weights")
    if not tied and architecture == "gemma3":
        pytest.skip("it has only tied weights")
    made = tiny.write(tmp_path / "tiny.gguf", architecture, tied)
    conversion.convert(tmp_path / "tiny.gguf", tmp_path)
    loaded, tokenizer, _ = loader.load_weights(tmp_path)
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
    assert mx.array_equal(conversion.unpermuted(shuffled, tiny.HEADS), rows)


def test_llama_cpp_order_of_rows_is_the_one_undone() -> None:
    """One head of four rows: its pairs (0, 2) and (1, 3) lie next to each other in the file."""
    assert conversion.unpermuted(mx.array([0, 2, 1, 3]), 1).tolist() == [0, 1, 2, 3]


def test_quantization_names_the_exceptions() -> None:
    """The commonest way is the rule."""
    four, eight = {"group_size": 32, "bits": 4}, {"group_size": 32, "bits": 8}
    found = conversion.quantization({"a": four, "b": four, "c": eight})["quantization"]
    assert found == {"group_size": 32, "bits": 4, "c": {"group_size": 32, "bits": 8}}
    assert conversion.quantization({}) == {}


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
    loader.load_weights(tmp_path)


def test_llama3_stretches_by_the_largest_factor(tmp_path: Path) -> None:
    """Which its files hold as a tensor, not as metadata."""
    tensors = tiny.tensors(tiny.model("llama"), "llama")
    tensors["rope_freqs.weight"] = mx.array([1.0, 32.0, 8.0, 1.0])
    mx.save_gguf(str(tmp_path / "t.gguf"), tensors, tiny.metadata("llama"))
    conversion.convert(tmp_path / "t.gguf", tmp_path)
    found = json.loads((tmp_path / "config.json").read_text())["rope_scaling"]
    assert (found["rope_type"], found["factor"]) == ("llama3", 32.0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"general__architecture": "bert"},
            "its architecture is 'bert' .supported: llama, qwen2, qwen3",
        ),
        (
            {"llama__context_length": None, "llama__block_count": None},
            "lacks the metadata llama.block_count, llama.context_length",
        ),
        ({"split__count": mx.array(3, mx.uint16)}, "one of 3 parts .llama-gguf-split --merge"),
        ({"tokenizer__ggml__model": "t5"}, "tokenizer is of kind 't5' .supported: gpt2, llama"),
        ({"tokenizer__ggml__model": "llama"}, "lacks the metadata tokenizer.ggml.scores"),
        ({"tokenizer__ggml__pre": "tekken"}, "pre-tokenizer is 'tekken' .supported: gpt-2"),
        ({"tokenizer__ggml__pre": None}, "not named, as in old files"),
        ({"llama__rope__scaling__type": "longrope"}, "rope scaling is of type 'longrope'"),
        ({"llama__rope__dimension_count": mx.array(4, mx.uint32)}, "only a part of each head"),
        (
            {"general__architecture": "bert", "tokenizer__ggml__model": "t5"},
            "its architecture is 'bert' .*; its tokenizer is of kind 't5'",
        ),
        (
            {
                "tokenizer__ggml__eos_token_id": mx.array(99_999, mx.uint32),
                "tokenizer__ggml__token_type": mx.array([1] * len(tiny.TOKENS), mx.int32),
            },
            "end of an answer, token 99999, is none of its 264 tokens",
        ),
    ],
)
def test_what_is_not_supported_is_named(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    """All of it at once, before anything is written that mlx-lm would fail on."""
    with pytest.raises(EngineFailed, match=words):
        converted(tmp_path, **more)
    assert not (tmp_path / "config.json").exists()


def test_an_end_that_is_no_token_is_left_out(tmp_path: Path) -> None:
    """If the file has others that are known to end a turn."""
    eos = mx.array(99_999, mx.uint32)
    assert config(tmp_path, tokenizer__ggml__eos_token_id=eos)["eos_token_id"] == [
        tiny.END,
        tiny.EOT,
    ]


def test_unknown_tensor_is_named(tmp_path: Path) -> None:
    """A layer that would be left out is an error, such as a mixture's experts."""
    tensors = tiny.tensors(tiny.model("llama"), "llama")
    tensors["blk.0.ffn_gate_exps.weight"] = mx.zeros((2, 2))
    mx.save_gguf(str(tmp_path / "t.gguf"), tensors, tiny.metadata("llama"))
    with pytest.raises(EngineFailed, match="unknown tensor blk.0.ffn_gate_exps.weight"):
        conversion.convert(tmp_path / "t.gguf", tmp_path)


@pytest.mark.parametrize(("number", "name"), [(24, "I8"), (15, "Q8_K"), (99, "number 99")])
def test_tensor_type_that_is_not_supported_is_named(number: int, name: str, tmp_path: Path) -> None:
    """Beside all else that is missing, the architecture first."""
    (tmp_path / "t.gguf").write_bytes(tiny.raw(2, number))
    words = (
        f"1 tensors are of type {name}, such as t1.weight; supported types are F32, .*"
        "its tokenizer is of kind None .*it lacks the metadata llama.embedding_length"
    )
    with pytest.raises(EngineFailed, match=words):
        conversion.convert(tmp_path / "t.gguf", tmp_path)


HALVES = {"Q4_0": (0,), "Q5_0": (0,), "Q8_0": (0,), "IQ4_NL": (0,), "Q4_1": (0, 2), "Q5_1": (0, 2),
          "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (-2,), "Q2_K": (-4, -2), "Q3_K": (-2,),
          "IQ4_XS": (0,), "IQ1_S": (0,), "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,),
          "IQ3_XXS": (0,), "IQ3_S": (0,), "TQ1_0": (-2,), "TQ2_0": (-2,)}  # fmt: skip
"""Where the scales of a block stand, which have to be numbers."""


@pytest.mark.parametrize("kind", [*KEPT, MXFP4, *HALVES])
def test_tensor_types_are_read_as_the_library_reads_them(kind: str) -> None:
    """Whatever bits a block holds; those that stay quantised but for the rounding of scales."""
    from gguf import GGMLQuantizationType
    from gguf.constants import GGML_QUANT_SIZES
    from gguf.quants import dequantize

    number = GGMLQuantizationType[kind]
    n_weights, n_bytes = GGML_QUANT_SIZES[number]
    blocks = np.random.default_rng(3).integers(0, 256, (2, 3, 512 // n_weights, n_bytes), np.uint8)
    for at in HALVES.get(kind, ()):
        blocks[..., [at, at + 1]] = np.frombuffer(np.float16(0.03).tobytes(), np.uint8)
    if kind == MXFP4:
        blocks[..., 0] = blocks[..., 0] % 16 + 120
    data = blocks.reshape(2, 3, -1)
    wanted = dequantize(data, number)
    parts, way = converted_tensor(kind, data)
    found = parts["weight"]
    assert bool(way) == (kind in KEPT or kind == MXFP4)
    if way:
        scales = parts["scales"], parts.get("biases")
        mode = way.get("mode", "affine")
        found = mx.dequantize(found, *scales, way["group_size"], way["bits"], mode=mode)
    assert found.shape == (2, 3, 512)
    ours = np.array(found.astype(mx.float32))
    np.testing.assert_allclose(ours, wanted, rtol=2e-3, atol=2e-3 * float(np.abs(wanted).max()))


def test_every_supported_type_is_read() -> None:
    """None is only claimed."""
    assert set(TENSOR_TYPES) == {"F32", "F16", "BF16", MXFP4, *KEPT, *WORKED_OUT}
    assert {*WORKED_OUT} - {*HALVES} <= {"BF16", "IQ1_M"}
    bfloats = np.frombuffer(bytes.fromhex("803f00c0"), np.uint8).reshape(1, 4)
    assert converted_tensor("BF16", bfloats)[0]["weight"].tolist() == [[1.0, -2.0]]


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_packed_numbers_come_back(bits: int) -> None:
    """In the order of bits that MLX reads."""
    numbers = np.random.default_rng(1).integers(0, 1 << bits, (3, 64), np.uint8)
    ones, nothing = mx.ones((3, 2)), mx.zeros((3, 2))
    found = mx.dequantize(mx.array(packed(numbers, bits)), ones, nothing, 32, bits)
    assert found.tolist() == numbers.tolist()


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q4_0", "BF16", MXFP4])
def test_quantised_experts_and_layers_compute_alike(kind: str, tmp_path: Path) -> None:
    """A whole file of such tensors, against the same model with its weights rounded so."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import dequantize, quantize

    made = tiny.model("qwen3moe")
    number = GGMLQuantizationType[kind]
    writer = GGUFWriter(tmp_path / "t.gguf", "qwen3moe")
    rounded = {}
    for name, weight in tiny.tensors(made, "qwen3moe").items():
        array = np.array(weight)
        if array.ndim > 1 and array.shape[-1] % 32 == 0 and "gate_inp" not in name:
            stored = quantize(array, number)
            writer.add_tensor(name, stored, raw_dtype=number)
            array = dequantize(stored, number)
        else:
            writer.add_tensor(name, array)
        rounded[name] = mx.array(array)
    for key, value in tiny.metadata("qwen3moe").items():
        plain = value.tolist() if isinstance(value, mx.array) else value
        if isinstance(plain, list):
            writer.add_array(key, plain)
        elif isinstance(plain, str):
            if key != "general.architecture":
                writer.add_string(key, plain)
        elif isinstance(plain, float):
            writer.add_float64(key, plain)
        else:
            writer.add_uint32(key, plain)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    conversion.convert(tmp_path / "t.gguf", tmp_path)
    mx.save_gguf(str(tmp_path / "r.gguf"), rounded, tiny.metadata("qwen3moe"))
    (tmp_path / "rounded").mkdir()
    conversion.convert(tmp_path / "r.gguf", tmp_path / "rounded")
    prompt = mx.array([[1, 2, 3, 4]])
    ours, theirs = (
        np.array(loader.load_weights(folder)[0](prompt).astype(mx.float32))
        for folder in (tmp_path, tmp_path / "rounded")
    )
    np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.02 * float(np.abs(theirs).max()))


def test_header_tells_every_tensor(tmp_path: Path) -> None:
    """Whatever kinds of value come before them."""
    (tmp_path / "t.gguf").write_bytes(tiny.raw(0, 14, 30))
    types = {"t0.weight": "F32", "t1.weight": "Q6_K", "t2.weight": "BF16"}
    header = read_header(tmp_path / "t.gguf")
    assert header.types == types
    assert header.shapes["t0.weight"] == (2, 256)
    assert header.metadata["some.numbers"] == [1, 2, 3]
    assert header.metadata["some.texts"] == ["a", "bc"]


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
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + tiny.text("a") + struct.pack("<I", 13),
            "unknown kind 13",
        ),
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
        "unknown kind",
    ],
)
def test_broken_file_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    """In words, and without taking memory for lengths that can't be true."""
    (tmp_path / "t.gguf").write_bytes(content)
    with pytest.raises(EngineFailed, match=words):
        conversion.convert(tmp_path / "t.gguf", tmp_path)


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
    _, tokenizer, _ = loader.load_weights(converted(tmp_path, **more))
    assert (tokenizer.encode("he")[0] == tiny.START) == begins


PIECES = [
    "hello hello",
    "  two  spaces, a tab\t and\n\n\nlines",
    "def f(x):\n    return x ** 2  # naïve",
    "日本語 🎉🇫🇷 e\u0301 ᚠ",
    "<start_of_turn>user\n1234567890<end_of_turn>",
]


def test_pieces_with_scores_are_cut_as_the_models_own_tokenizer_does(tmp_path: Path) -> None:
    """Gemma 3's, whose order of merges stands for the scores that a GGUF has."""
    try:
        folder = VOCABULARIES["gemma3"].folder()
    except Unavailable as error:
        pytest.skip(str(error))
    own = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    own["post_processor"] = None
    added = {each["content"]: each for each in own["added_tokens"]}
    whole = own["model"]["vocab"]
    # A part of it is enough, and takes less time: what was merged first, and single characters.
    tokens = [
        token
        for token in sorted(whole, key=whole.__getitem__)
        if whole[token] < 20_000 or len(token) == 1 or token == "<end_of_turn>"
    ]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    own["model"]["vocab"] = vocabulary
    own["model"]["merges"] = [
        pair for pair in own["model"]["merges"] if {*pair, "".join(pair)} <= vocabulary.keys()
    ]
    own["added_tokens"] = [
        {**each, "id": vocabulary[each["content"]]}
        for each in own["added_tokens"]
        if each["content"] in vocabulary
    ]
    rank: dict[str, int] = {}
    for index, pair in enumerate(own["model"]["merges"]):
        rank.setdefault("".join(pair), index)
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(rank.get(token, 10**6)) for token in tokens],
        "tokenizer.ggml.token_type": [
            (3 if added[token]["special"] else 4) if token in added else 1 for token in tokens
        ],
        "tokenizer.ggml.unknown_token_id": vocabulary["<unk>"],
        "tokenizer.ggml.bos_token_id": vocabulary["<bos>"],
        "tokenizer.ggml.eos_token_id": vocabulary["<eos>"],
        "tokenizer.ggml.add_space_prefix": False,
    }
    assert not list(tokenizer_faults(metadata))
    ends = write_tokenizer(metadata, 1000, tmp_path)
    assert ends == [vocabulary["<eos>"], vocabulary["<end_of_turn>"]]
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs = Tokenizer.from_str(json.dumps(own))
    for text in PIECES:
        found = ours.encode(text, add_special_tokens=False)
        assert found.tokens == theirs.encode(text, add_special_tokens=False).tokens
        assert ours.decode(found.ids, skip_special_tokens=False) == text
