"""What is released installs into an empty environment, by each of the usual tools, and works.

Needs the package index that pip uses. Takes minutes, and 2 GB for each tool.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.real import ROOT, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def run(*command: object, environ: Mapping[str, str], cwd: Path) -> str:
    """What a command prints; it has to succeed."""
    words = [str(each) for each in command]
    ran = subprocess.run(words, env=environ, cwd=cwd, capture_output=True, text=True)
    assert ran.returncode == 0, f"{words}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    return ran.stdout


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the usual tools, and nothing of ours."""
    folder = tmp_path_factory.mktemp("tools")
    run(sys.executable, "-m", "venv", folder, environ=os.environ, cwd=folder)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet")
    run(*pip, "build", "twine", "uv", "pipx", environ=os.environ, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def dist(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this checkout, and the wheel that is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(tools / "python", "-m", "build", "--outdir", folder, ROOT, environ=os.environ, cwd=folder)
    return folder


@pytest.fixture
def clean(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment without a word of ours, with an empty home."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLXDECK", "PYTHON"))}
    folders = {name: str(tmp_path / name.lower()) for name in ("HOME", "PIPX_HOME")}
    yield (
        kept
        | folders
        | {
            "PIPX_BIN_DIR": str(tmp_path / "bin"),
            "UV_TOOL_DIR": str(tmp_path / "tools"),
            "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
            "MLXDECK_HOME": str(tmp_path / "state"),
        }
    )


def test_both_files_pass_the_checks_of_the_index(tools: Path, dist: Path) -> None:
    """Their pages can be shown there."""
    files = sorted(dist.iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    run(tools / "twine", "check", "--strict", *files, environ=os.environ, cwd=dist)


@pytest.mark.parametrize("installer", [("uv", "tool", "install"), ("pipx", "install")])
def test_it_installs_and_answers(
    installer: tuple[str, ...], tools: Path, dist: Path, clean: dict[str, str], tmp_path: Path
) -> None:
    """The command, the module, completion, and a server that answers."""
    (wheel,) = dist.glob("*.whl")
    own = ("--python", sys.executable)
    run(tools / installer[0], *installer[1:], *own, wheel, environ=clean, cwd=tmp_path)
    mlxdeck = tmp_path / "bin" / "mlxdeck"
    assert run(mlxdeck, "--version", environ=clean, cwd=tmp_path).startswith("mlxdeck ")
    assert "serve" in run(mlxdeck, "completion", "bash", environ=clean, cwd=tmp_path)
    python = mlxdeck.resolve().with_name("python")
    assert "usage: mlxdeck" in run(python, "-m", "mlxdeck", environ=clean, cwd=tmp_path)
    assert "ok    MLX" in run(mlxdeck, "doctor", environ=clean, cwd=tmp_path)
    port = free_port()
    command = [str(mlxdeck), "serve", "--engine", "echo", "--port", str(port)]
    with subprocess.Popen(
        command, env=clean, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert any("mlxdeck ready" in line for line in server.stdout)
        url = f"http://127.0.0.1:{port}/v1/models"
        assert json.loads(run("curl", "-s", url, environ=clean, cwd=tmp_path))["data"]
        server.terminate()
        assert "no requests recorded in this session" in server.stdout.read()
    assert server.returncode == 0
