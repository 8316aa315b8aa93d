"""Models on this machine and on the Hub: sizes, whether they fit, fetching and removing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxdeck.server.backends.local.engine.hardware.device import Device
from mlxdeck.server.backends.local.engine.models.kv_size import kv_bytes
from mlxdeck.server.backends.local.engine.models.loader import hold
from mlxdeck.server.backends.local.engine.models.weight_sizes import TensorHeader, loaded_bytes
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops.disk_use import find, on_disk
from mlxdeck.server.ops.fits import WORK_BYTES, local_fit
from mlxdeck.settings.errors import UserError
from tests.hub import Hub, serving_hub
from tests.real import ROOT, free_port

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1_000,
    "vocab_size": 100,
    "quantization": {"group_size": 32, "bits": 4},
}
TEMPLATE = "{% for m in messages %}<tool_call>{{ m.content }}{% endfor %}"


def model_folder(folder: Path) -> Path:
    """A model of which only headers are looked at."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    tensors: dict[str, np.ndarray[Any, np.dtype[Any]]] = {
        "model.norm.weight": np.zeros(64, np.float16),
        "model.a.weight": np.zeros((64, 64 * 4 // 32), np.uint32),
        "model.a.scales": np.zeros((64, 2), np.float16),
        "model.a.biases": np.zeros((64, 2), np.float16),
        "model.large.weight": np.zeros((4096, 3072), np.float16),
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def machine(kind: str, model_bytes: int) -> Device:
    """A made-up one."""
    return Device(kind, "made up", "0", model_bytes, 2 * model_bytes)


def test_weights_take_what_their_headers_say() -> None:
    """On the CPU all of them are held in fp32, and scales are gone."""
    tensors = [
        TensorHeader("n.weight", "BF16", (10,)),
        TensorHeader("a.weight", "U32", (8, 4)),
        TensorHeader("a.scales", "F16", (8, 1)),
        TensorHeader("a.biases", "F16", (8, 1)),
        TensorHeader("b.weight", "U32", (8, 8)),
        TensorHeader("b.scales", "F16", (8, 1)),
    ]
    config = {"quantization": {"group_size": 32, "bits": 4, "b": {"group_size": 64, "bits": 4}}}
    assert loaded_bytes(tensors, config, widened=False) == 20 + 128 + 16 + 16 + 256 + 16
    assert loaded_bytes(tensors, config, widened=True) == 4 * (10 + 8 * 32 + 8 * 64)


@pytest.mark.parametrize(("kind", "value_bytes"), [("cpu", 4), ("metal", 2)])
def test_a_conversation_fits_as_long_as_memory_lasts(
    kind: str, value_bytes: int, tmp_path: Path
) -> None:
    """One token more would not; nothing fits beside weights that fill it."""
    folder = model_folder(tmp_path / "m")
    weights = local_fit("m", folder, machine(kind, 1 << 40)).weight_bytes
    per_token = kv_bytes(CONFIG, 1, value_bytes)
    room = weights + WORK_BYTES

    def fit(model_bytes: int) -> tuple[bool, int]:
        found = local_fit("m", folder, machine(kind, model_bytes))
        return found.fits, found.kv_tokens

    assert fit(room + 10 * per_token) == (True, 10)
    assert fit(room + 10 * per_token - 1) == (True, 9)
    assert fit(room + 10_000 * per_token) == (True, 1_000)
    assert fit(room - 1)[0] is False
    assert local_fit("m", folder, machine(kind, 1 << 40)).tool_format == "json_tags"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A Hub that has the model org/tiny."""
    with serving_hub("org/tiny", model_folder(tmp_path / "upstream")) as running:
        yield running


def deck(hub: Hub, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command against the Hub, with a home of its own."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "MLXDECK_HOME": str(home / "deck"),
        "PYTHONPATH": os.pathsep.join((str(ROOT / ".pkg"), str(ROOT))),
    }
    return subprocess.run(
        [sys.executable, "-m", "mlxdeck.cli.main", *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_whether_a_model_of_the_hub_fits_is_read_from_headers(hub: Hub, tmp_path: Path) -> None:
    """No weights are fetched, and none are left behind."""
    done = deck(hub, tmp_path, "fits", "org/tiny", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["context_tokens"], told["tool_format"]) == (1_000, "json_tags")
    assert told["weight_bytes"] == 4 * (64 + 64 * 64 + 4096 * 3072)
    whole = (hub.folder / "model.safetensors").stat().st_size
    assert hub.sent_bytes["model.safetensors"] < whole / 2
    assert "no model '/none'" in deck(hub, tmp_path, "fits", "/none").stderr
    assert deck(hub, tmp_path, "fits", "org/none").stderr.startswith(
        "mlxdeck: cannot fetch org/none from Hugging Face: there is none"
    )


def test_a_download_that_was_cut_off_continues(hub: Hub, tmp_path: Path) -> None:
    """Then the model is listed with its size, and can be removed."""
    whole = (hub.folder / "model.safetensors").stat().st_size
    hub.cut_after_bytes = 15_000_000
    done = deck(hub, tmp_path, "pull", "org/tiny")
    if done.returncode:
        done = deck(hub, tmp_path, "pull", "org/tiny")
    assert done.returncode == 0, done.stderr
    # The Hub's client keeps whole pieces of 10 MB.
    assert whole < hub.sent_bytes["model.safetensors"] < whole + 10_000_000
    (tiny,) = [
        m for m in json.loads(deck(hub, tmp_path, "models", "--json").stdout) if "/" in m["model"]
    ]
    assert tiny["bytes"] > whole
    assert tiny["fits"] is True
    assert "org/tiny" in deck(hub, tmp_path, "rm").stdout
    assert deck(hub, tmp_path, "rm", "org/tiny").returncode == 1
    assert deck(hub, tmp_path, "rm", "org/tiny", "--yes").stdout == "removed org/tiny\n"
    assert "org/tiny" not in deck(hub, tmp_path, "rm").stdout
    assert not list((tmp_path / "hf").rglob("*.safetensors"))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with a converted model, a cache and two recordings, of which one is not ours."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "home"
    model_folder(home / "models" / "gguf-mine-0")
    (home / "cache").mkdir()
    (home / "cache" / "index.sqlite").write_bytes(b"x" * 100)
    (home / "telemetry").mkdir()
    for name in ("mlxdeck-20261126-010101-7.jsonl", "letters.jsonl"):
        (home / "telemetry" / name).write_bytes(b"x" * 10)
    return Settings(home=home, port=free_port())


def recordings(settings: Settings) -> list[Path]:
    """Ours."""
    return list(settings.telemetry_folder.glob("mlxdeck-*.jsonl"))


def test_only_what_is_ours_is_removed(settings: Settings) -> None:
    """Other files in the same folder stay."""
    items = on_disk(settings, recordings(settings))
    assert [item.name for item in items] == ["gguf-mine-0", "cache", "telemetry"]
    assert {item.name: item.n_bytes for item in items}["telemetry"] == 10
    for item in items:
        item.remove()
    assert on_disk(settings, recordings(settings)) == []
    assert (settings.telemetry_folder / "letters.jsonl").exists()
    with pytest.raises(UserError, match="not on this machine; there is: nothing"):
        find([], "other")


def test_a_model_in_use_stays(settings: Settings) -> None:
    """As its server would otherwise read a file that is gone."""
    model = find(on_disk(settings, []), "gguf-mine-0")
    release = hold(model.path, server := set[int]())
    with pytest.raises(UserError, match="in use"):
        model.remove()
    release()
    model.remove()
    assert not model.path.exists()
    del server


def test_a_linked_cache_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    """It may lead to somebody else's files."""
    precious = tmp_path / "precious"
    settings.cache_folder.rename(precious)
    settings.cache_folder.symlink_to(precious)
    with pytest.raises(UserError, match="is a link"):
        find(on_disk(settings, []), "cache").remove()
    assert (precious / "index.sqlite").exists()
