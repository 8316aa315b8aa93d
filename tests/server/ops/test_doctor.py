"""What is found, and what is to be done about it."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.engine.echo import ByteTokenizer
from mlxdeck.server.backends.local.engine.hardware.blas import Blas
from mlxdeck.server.backends.local.engine.hardware.device import Device
from mlxdeck.server.backends.local.engine.models.loader import ResolvedModel
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops import background, doctor
from mlxdeck.server.ops.agent_session import AnotherServer
from mlxdeck.server.ops.doctor import Finding
from tests.real import free_port

CPU = Device("cpu", "AMD EPYC", "0.32.4", 20 * 1024**3, 24 * 1024**3)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home that does not exist yet."""
    return Settings(home=tmp_path / "home", port=free_port())


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has all it needs, and is not this one."""
    monkeypatch.setattr(doctor, "_device", lambda: CPU)
    monkeypatch.setattr(doctor, "load_fast_blas", lambda: Blas("MKL", "/lib/mkl.so"))
    monkeypatch.setattr(doctor, "measure_gflops", lambda: 250.0)
    monkeypatch.setattr(doctor, "list_models", lambda _: [])
    monkeypatch.setattr("mlxdeck.server.ops.doctor.shutil.which", lambda _: None)
    monkeypatch.setattr("mlxdeck.server.ops.doctor.platform.system", lambda: "Linux")


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take MLX away."""
    monkeypatch.setattr(doctor, "_device", lambda: ImportError("no libmlx.so"))


def test_report_has_a_row_for_everything(settings: Settings) -> None:
    """Rows begin with the verdict, a remedy stands below its row, nothing is made."""
    said: list[str] = []
    assert doctor.report(settings, said.append) == 0
    rows = [line for line in said if not line.startswith(" ")]
    named = [name for name in doctor.CHECKS if name != doctor.SMALL_MODEL]
    assert [row[6:18].rstrip() for row in rows] == named
    assert "ok    MLX          0.32.4 on cpu (AMD EPYC)" in said
    assert "ok    BLAS         MKL, 250 GF/s in fp32" in said
    assert "ok    memory       20.0 GiB for a model, of 24.0 GiB" in said
    assert f"{'':<18} -> npm install -g @anthropic-ai/claude-code" in said
    assert not settings.home.exists()


def test_report_tells_of_a_small_model(settings: Settings) -> None:
    """Whether it is here, as it does of the first one."""
    said: list[str] = []
    doctor.report(replace(settings, small_model="smollm2"), said.append)
    (row,) = [line for line in said if line[6:18].rstrip() == doctor.SMALL_MODEL]
    assert "smollm2 is fetched at the first start" in row


def test_report_goes_on_without_mlx(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One broken thing is one bad row, with a command that mends it."""
    broken(monkeypatch)
    said: list[str] = []
    assert doctor.report(settings, said.append) == 1
    assert "BAD   MLX          cannot be loaded: no libmlx.so" in said
    assert f"{'':<18} -> pip install --force-reinstall 'mlx[cpu]'" in said


def test_intel_mac_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX does not exist there, nor for a translated Python."""
    monkeypatch.setattr("mlxdeck.server.ops.doctor.platform.system", lambda: "Darwin")
    monkeypatch.setattr("mlxdeck.server.ops.doctor.platform.machine", lambda: "x86_64")
    assert doctor.python(settings).verdict == "BAD"


def test_mac_without_metal_is_noted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works, but far below what the machine can do."""
    monkeypatch.setattr("mlxdeck.server.ops.doctor.platform.system", lambda: "Darwin")
    assert "Metal" in doctor.mlx(settings).remedy


def test_slow_blas_names_the_package(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is the one of whoever looked for a fast one."""
    slow = Blas("reference BLAS", note="pip install mkl")
    monkeypatch.setattr(doctor, "load_fast_blas", lambda: slow)
    monkeypatch.setattr(doctor, "measure_gflops", lambda: 3.0)
    wanted = Finding("note", "reference BLAS, 3 GF/s in fp32", "pip install mkl")
    assert doctor.blas(settings) == wanted


def test_little_memory_is_noted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the system begins to swap."""
    tight = Device("cpu", "x", "0.32.4", 1024**3, 4 * 1024**3)
    monkeypatch.setattr(doctor, "_device", lambda: tight)
    assert doctor.memory(settings).verdict == "note"


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("smollm2", "note", "93 MB"),
        ("org/model", "note", "fetched from Hugging Face"),
        ("org/here", "ok", "on this machine"),
        ("{tmp}/model", "ok", "on this machine"),
        ("{tmp}/model.gguf", "ok", "on this machine"),
        ("{tmp}/other.gguf", "BAD", "leads to no model"),
        ("{tmp}", "BAD", "leads to no model"),
        ("./nope", "BAD", "leads to no model"),
        ("gpt", "BAD", "leads to no model"),
    ],
)
def test_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, verdict: str, words: str
) -> None:
    """Here already, to be fetched, or a mistake."""
    here = [ResolvedModel("org/here", tmp_path, "hub")]
    here.append(ResolvedModel("smollm2", tmp_path / "not made yet", "builtin"))
    monkeypatch.setattr(doctor, "list_models", lambda _: here)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model.gguf").write_text("")
    finding = doctor.model(Settings(model=name.format(tmp=tmp_path), home=tmp_path))
    assert finding.verdict == verdict
    assert words in finding.what


def test_claude_code(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version if it runs, the way to install it if it doesn't."""
    client = tmp_path / "claude"
    monkeypatch.setattr("mlxdeck.server.ops.doctor.shutil.which", lambda _: str(client))
    client.write_text("#!/bin/sh\necho '2.1.0 (Claude Code)'\n")
    client.chmod(0o700)
    assert doctor.claude_code(settings).what == f"2.1.0 (Claude Code) ({client})"
    client.write_text("#!/bin/sh\nexit 3\n")
    assert doctor.claude_code(settings).remedy.startswith("npm install")


@pytest.mark.parametrize(
    ("state", "other", "verdict"),
    [
        (None, "", "ok"),
        ("healthy", "", "ok"),
        ("unhealthy", "", "note"),
        ("healthy", "has another home", "note"),
    ],
)
def test_server(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, state: str | None, other: str, verdict: str
) -> None:
    """None, one that works, one that doesn't, one that `mlxdeck claude` would refuse."""

    def check_same(asked: Settings) -> None:
        if other:
            raise AnotherServer(f"{asked.url} {other}")

    monkeypatch.setattr(doctor, "check_same", check_same)
    body = {"status": state, "model_loaded": False} if state else None
    monkeypatch.setattr(doctor, "health", lambda _: body)
    finding = doctor.server(settings)
    assert finding.verdict == verdict
    assert settings.url in finding.what


def test_other_servers_are_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their names, and why they can't answer; what only a model here needs isn't missed."""
    broken(monkeypatch)
    told = Settings(home=tmp_path, upstream=f"http://127.0.0.1:{free_port()}", port=free_port())
    found = doctor.backends(told)
    assert found.verdict == "note"
    assert "can't be reached" in found.remedy
    said: list[str] = []
    assert doctor.report(told, said.append) == 0
    assert "ok    MLX          not needed: no model runs here" in said


def test_telemetry_folder(tmp_path: Path) -> None:
    """Switched off, in the way, or with so many files."""
    assert doctor.telemetry(Settings(telemetry=False)).verdict == "note"
    file = tmp_path / "file"
    file.write_text("")
    in_the_way = Settings(telemetry_dir=str(file / "telemetry"))
    assert "cannot be written" in doctor.telemetry(in_the_way).what
    (tmp_path / "a.jsonl").write_text("x" * 1_500_000)
    here = doctor.telemetry(Settings(telemetry_dir=str(tmp_path)))
    assert here == Finding("ok", f"1 file, 1.5 MB in {tmp_path}")


def test_file_of_settings_is_named(tmp_path: Path) -> None:
    """A forgotten file explains a strange setting."""
    (tmp_path / "mlxdeck.toml").write_text("")
    loaded = Settings.load({}, {}, tmp_path)
    assert str(tmp_path / "mlxdeck.toml") in doctor.files(loaded).what


def test_the_window_of_a_model_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    """Its source and price, that it is a guess, or what the folder lacks."""
    settings = Settings(model=str(tmp_path), home=tmp_path / "home")
    assert doctor.context(settings).what == "known once the model is on this machine"
    config = {"model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32}
    config |= {"hidden_size": 4096, "num_key_value_heads": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert doctor.context(settings) == Finding(
        "BAD",
        f"{tmp_path} has no tokenizer.json",
        "copy it from the original model",
    )
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    finding = doctor.context(settings)
    assert (finding.verdict, finding.what[:12]) == ("note", "8,192 tokens")
    assert "--context-tokens" in finding.remedy
    (tmp_path / "config.json").write_text(json.dumps({**config, "n_ctx": 131072}))
    assert doctor.context(settings) == Finding(
        "ok", "131,072 tokens by n_ctx; a conversation that fills it takes 32.00 GiB"
    )


def test_a_port_that_another_program_holds_is_bad(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server could not start; the remedy names the next port."""
    monkeypatch.setattr(background, "PROBE_TIMEOUT_S", 0.1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.port))
        other.listen()
        found = doctor.server(settings)
    assert (found.verdict, found.what) == (
        "BAD",
        f"127.0.0.1:{settings.port} can't be used: another program listens there",
    )
    assert f"--port {settings.port + 1}" in found.remedy
    assert doctor.server(settings) == Finding("ok", f"none runs on {settings.url}")


def test_a_home_that_cannot_be_made_is_bad(tmp_path: Path) -> None:
    """Models, caches and telemetry would have no place."""
    (tmp_path / "file").touch()
    found = doctor.files(Settings(home=tmp_path / "file" / "home"))
    assert (found.verdict, found.remedy[:16]) == ("BAD", "set MLXDECK_HOME")


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("1.0.128", "note"), ("2.0.9", "note"), ("2.1.0", "ok"), ("10.0", "ok")],
)
def test_an_old_client_is_noted(
    version: str,
    verdict: str,
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads other variables."""
    client = tmp_path / "claude"
    client.write_text(f"#!/bin/sh\necho '{version} (Claude Code)'\n")
    client.chmod(0o755)
    monkeypatch.setattr("mlxdeck.server.ops.doctor.shutil.which", lambda _: str(client))
    assert doctor.claude_code(settings).verdict == verdict


def test_a_model_without_a_template_is_bad(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy is a template of the user's."""
    monkeypatch.setattr(doctor, "_model_folder", lambda _: tmp_path)
    tokenizer = ByteTokenizer()
    tokenizer.traits = TemplateTraits()
    loaded = "mlxdeck.server.backends.local.engine.mlx.tokenizer.load_tokenizer"
    monkeypatch.setattr(loaded, lambda *_: tokenizer)
    wanted = Finding("BAD", "the model has none", "give one: --chat-template FILE")
    assert doctor.chat_template(settings) == wanted


def test_what_a_template_does_not_take_is_told_by_what_is_done(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools are not put into other turns, but as text."""
    monkeypatch.setattr(doctor, "_model_folder", lambda _: tmp_path)
    tokenizer = ByteTokenizer()
    tokenizer.traits = TemplateTraits(source="{{ messages }}")
    loaded = "mlxdeck.server.backends.local.engine.mlx.tokenizer.load_tokenizer"
    monkeypatch.setattr(loaded, lambda *_: tokenizer)
    told = "it does not take all that agents send: tools, their calls and results are put as text"
    assert doctor.chat_template(settings) == Finding("ok", told)


def test_the_report_is_one_json_document_for_programs(settings: Settings) -> None:
    """With the same rows."""
    said: list[str] = []
    assert doctor.report(settings, said.append, as_json=True) == 0
    (document,) = said
    rows = json.loads(document)
    assert rows["MLX"] == {"verdict": "ok", "what": "0.32.4 on cpu (AMD EPYC)", "remedy": ""}
    assert set(rows) == set(doctor.CHECKS) - {doctor.SMALL_MODEL}
