"""A model's folder: what isn't needed can't hurt, what is needed and broken is named."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlx_lm.models.cache import KVCache

from mlxdeck.server.backends.local.engine.hardware.device import device
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.models import loader
from mlxdeck.server.backends.local.engine.models.model_folder import fit_to_load
from mlxdeck.server.backends.local.engine.models.model_info import sampling, signature
from mlxdeck.server.errors import EngineFailed
from tests.server.backends.local.engine import tiny

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that loads."""
    path = tmp_path_factory.mktemp("whole")
    tiny.write(path / "tiny.gguf", "qwen3")
    return loader.resolve(str(path / "tiny.gguf"), path / "models", lambda _: None).path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    target = tmp_path / "model"
    target.mkdir()
    for file in whole.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def write(name: str, content: str | bytes) -> Change:
    """Put something in a file's place."""
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def dangling(name: str) -> Change:
    """Put a link that leads nowhere in a file's place."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/nowhere/at/all")

    return change


def fields(name: str, **more: Any) -> Change:
    """Change what a JSON file says; None for a field that goes."""

    def change(folder: Path) -> None:
        told = json.loads((folder / name).read_text()) | more
        (folder / name).write_text(json.dumps(told))

    return change


def listening(folder: Path) -> None:
    """A socket among the files, by a relative path, as long ones don't fit."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("z.json")
    finally:
        os.chdir(before)


HARMLESS: dict[str, Change] = {
    "README leads nowhere": dangling("README.md"),
    "a folder called x.json": lambda folder: (folder / "x.json").mkdir(),
    "a pipe": lambda folder: os.mkfifo(folder / "y.json"),
    "a pipe called like weights": lambda folder: os.mkfifo(folder / "model-x.safetensors"),
    "a socket": listening,
    "other JSON": write("notes.json", "{"),
    "generation: broken": write("generation_config.json", '{"temperature": 0.7,}'),
    "generation: list": write("generation_config.json", "[1]"),
    "generation: bytes": write("generation_config.json", b"\xff\xfe{"),
    "generation: deep": write("generation_config.json", "[" * 100_000),
    "generation: nowhere": dangling("generation_config.json"),
    "generation: eos": write("generation_config.json", '{"eos_token_id": ["</s>", null]}'),
    "special tokens": dangling("special_tokens_map.json"),
    "added tokens": write("added_tokens.json", "no"),
    "old index": write(
        "model.safetensors.index.json", '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'
    ),
    "broken index": write("model.safetensors.index.json", "{"),
    "template: bytes": write("chat_template.jinja", b"\xff"),
    "template: broken JSON": write("chat_template.json", "{"),
    "window null": fields("config.json", max_position_embeddings=None),
    "window NaN": fields("config.json", max_position_embeddings=float("nan")),
    "numbers as text": fields("config.json", hidden_size="32", rms_norm_eps="1e-6"),
    "eos": fields("config.json", eos_token_id=[1, "2", None, 10**9]),
    "unknown template type": fields("tokenizer_config.json", chat_template_type="none_such"),
    "unknown parser": fields("tokenizer_config.json", tool_parser_type="none_such"),
    "code": write("tokenizer.py", "raise SystemExit"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_not_needed_can_not_hurt(case: str, folder: Path) -> None:
    """The model is loaded, with a line where something was left out or put right."""
    HARMLESS[case](folder)
    with fit_to_load(folder) as fit:
        model, tokenizer, _ = loader.load_weights(fit.path)
        assert len(signature(fit.path)) == 64
    assert model.layers
    assert tokenizer.chat_template
    assert all("\n" not in note for note in fit.notes)
    said = {"generation", "special", "added", "template:", "unknown", "old", "broken", "numbers"}
    assert bool(fit.notes) or case.split(" ")[0].rstrip(":") not in said


def cut(folder: Path) -> None:
    """A download that was interrupted."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def shard(folder: Path) -> None:
    """One of two parts."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def indexed(folder: Path) -> None:
    """Parts that only the index knows of."""
    (folder / "model.safetensors").rename(folder / "model-a.safetensors")
    index = {"weight_map": {"x": "model-a.safetensors", "y": "model-b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
HEAD = struct.pack("<Q", 1 << 40)
BROKEN: dict[str, tuple[Change, str]] = {
    "config: no object": (write("config.json", "[1]"), "config.json holds no JSON object"),
    "config: no JSON": (write("config.json", "{"), "config.json is broken JSON: .* again"),
    "config: nowhere": (dangling("config.json"), "config.json can't be read: it is a link"),
    "config: no type": (write("config.json", "{}"), "names no model_type"),
    "config: unknown type": (
        fields("config.json", model_type="qwen33"),
        "does not support the model type 'qwen33' .the nearest are qwen3.*pip install",
    ),
    "tokenizer missing": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json; copy"),
    "tokenizer broken": (write("tokenizer.json", "{"), "tokenizer.json is broken"),
    "tokenizer without model": (write("tokenizer.json", "{}"), "describes no tokenizer; copy"),
    "tokenizer pointer": (
        write("tokenizer.json", LFS),
        "tokenizer.json is a Git LFS pointer.*git lfs",
    ),
    "tokenizer config": (write("tokenizer_config.json", "{"), "tokenizer_config.json is broken"),
    "weights cut": (cut, r"model.safetensors is cut off: [\d,]+ of [\d,]+ bytes; copy or down"),
    "weights empty": (write("model.safetensors", b""), "no complete safetensors file"),
    "weights pointer": (write("model.safetensors", LFS), "model.safetensors is a Git LFS pointer"),
    "weights length": (write("model.safetensors", HEAD), "no complete safetensors file"),
    "weights nowhere": (dangling("model.safetensors"), "no model\\*.safetensors that can be read"),
    "weights header": (
        write("model.safetensors", struct.pack("<Q", 2) + b"[]"),
        "damaged header",
    ),
    "a part": (shard, "model-00002-of-00002.safetensors is missing; copy or download"),
    "a part of the index": (indexed, "model-b.safetensors is missing"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_needed_and_broken_is_named_with_the_remedy(case: str, folder: Path) -> None:
    """In one line, before the weights are read."""
    change, words = BROKEN[case]
    change(folder)
    with pytest.raises(EngineFailed, match=words) as failed, fit_to_load(folder):
        pytest.fail("it is not fit")
    assert "\n" not in failed.value.message


def engine(folder: Path, **more: Any) -> MlxEngine:
    """One that would load it."""
    return MlxEngine(str(folder), folder, prefill_chunk_tokens=8, **more)


def test_what_mlx_lm_refuses_is_one_line(folder: Path) -> None:
    """With what may help."""
    fields("config.json", num_hidden_layers=3)(folder)
    with pytest.raises(EngineFailed, match="Missing 11 parameters.*belong together") as failed:
        engine(folder).load(lambda _: None)
    assert "\n" not in failed.value.message


def test_a_raised_guess_is_said_with_what_it_costs(folder: Path) -> None:
    """In the lines of the start, and in what is known of the model."""
    fields("config.json", rope_scaling={"type": "linear", "factor": 400.0})(folder)
    said: list[str] = []
    info = engine(folder, context_tokens=50_000).load(said.append)
    assert (info.context_tokens, info.context_is_guess) == (50_000, True)
    assert 50_000 <= info.kv_bytes / _token_bytes() <= 50_000 + 2 * KVCache.step
    (line,) = [each for each in said if each.startswith("context: ")]
    assert line.startswith("context: 50,000 tokens by --context-tokens, instead of 128 (max_pos")
    assert "(a guess); a conversation that fills it takes 0.0" in line


def test_the_window_stands_in_the_lines_of_the_start(folder: Path) -> None:
    """With its source and its price."""
    said: list[str] = []
    info = engine(folder).load(said.append)
    assert (info.context_tokens, info.context_source) == (128, "max_position_embeddings")
    assert 128 <= info.kv_bytes / _token_bytes() <= 128 + 2 * KVCache.step
    assert (
        "context: 128 tokens by max_position_embeddings;"
        " a conversation that fills it takes 0.00 GiB"
    ) in said


TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("change", "chosen"),
    [
        (write("chat_template.jinja", "jinja"), "jinja"),
        (
            lambda f: (
                fields("tokenizer_config.json", chat_template=None)(f),
                write("chat_template.json", json.dumps({"chat_template": "processor"}))(f),
            ),
            "processor",
        ),
        (write("chat_template.json", json.dumps({"chat_template": "processor"})), TEMPLATE),
        (
            fields(
                "tokenizer_config.json",
                chat_template=[
                    {"name": "default", "template": "plain"},
                    {"name": "tool_use", "template": "tools"},
                    {"name": "rag", "template": "rag"},
                ],
            ),
            "tools",
        ),
        (fields("tokenizer_config.json", chat_template={"default": "d", "rag": "r"}), "d"),
        (
            lambda f: (
                (f / "additional_chat_templates").mkdir(),
                write("additional_chat_templates/tool_use.jinja", "beside")(f),
            ),
            "beside",
        ),
    ],
    ids=["file", "processor's", "both", "named", "object", "folder"],
)
def test_the_chat_template_is_found_wherever_it_is_kept(
    change: Change, chosen: str, folder: Path
) -> None:
    """The one for tools, if there are several."""
    change(folder)
    with fit_to_load(folder) as fit:
        tokenizer = loader.load_weights(fit.path)[1]
    assert tokenizer.chat_template.replace("['content']", ".content") == chosen
    assert fit.templates.chosen in fit.templates.by_name


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({}, (0.0, 1.0, 0)),
        ({"temperature": 0.0}, (0.0, 1.0, 0)),
        ({"temperature": 0}, (0.0, 1.0, 0)),
        ({"do_sample": True, "temperature": 0.0}, (0.0, 1.0, 0)),
        ({"do_sample": True}, (1.0, 1.0, 0)),
        ({"do_sample": False, "temperature": 0.7}, (0.0, 1.0, 0)),
        ({"temperature": 0.6, "top_p": 0.95, "top_k": 20}, (0.6, 0.95, 20)),
        ({"temperature": "0.6", "top_p": "0.9", "top_k": "20"}, (0.6, 0.9, 20)),
        ({"temperature": None, "top_p": None, "top_k": None}, (1.0, 1.0, 0)),
        ({"temperature": float("nan"), "top_p": 7, "top_k": -1}, (0.0, 1.0, 0)),
        ({"temperature": [1], "top_p": {}, "top_k": True}, (0.0, 1.0, 0)),
        ({"do_sample": "yes", "temperature": 0.5}, (0.0, 1.0, 0)),
    ],
)
def test_sampling_is_what_the_authors_wrote(
    told: dict[str, Any], wanted: tuple[float, float, int]
) -> None:
    """A zero is a zero; what can't be used is as if it were not there."""
    assert sampling(told) == wanted


def _token_bytes() -> int:
    """Bytes of a token's keys and values; caches grow by steps."""
    return tiny.LAYERS * 2 * tiny.KV_HEADS * tiny.HEAD_DIM * (2 if device().kind == "metal" else 4)
