"""`mlxdeck claude` and `mlxdeck run`: what is told before a server starts, and at the end."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from mlxdeck.cli import session
from mlxdeck.cli.main import main
from mlxdeck.server.ops import agent_process, agent_session
from mlxdeck.server.ops.agents import Endpoint


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was started: nothing is."""
    found: list[str] = []

    def endpoint(*_: object) -> nullcontext[Endpoint]:
        found.append("server")
        return nullcontext(Endpoint("http://127.0.0.1:1", "", "m", 0, is_recorded=False))

    def run_agent(command: list[str], _: object) -> int:
        found.append(command[0])
        return 7

    monkeypatch.setattr(agent_session, "endpoint", endpoint)
    monkeypatch.setattr(agent_process, "run_agent", run_agent)
    return found


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["claude"], "cannot run claude: it is not on PATH; install it with: npm install"),
        (["claude", "--", "-p", "x"], "cannot run claude: it is not on PATH; install it with"),
        (["run", "--", "mine", "x"], "cannot run mine: it is not on PATH\n"),
        (["run", "--", "./mine"], "cannot run ./mine: No such file or directory\n"),
        (["run", "--", "./plain"], "cannot run ./plain: Permission denied\n"),
        (["run", "--", ""], "cannot run '': it is not on PATH\n"),
    ],
)
def test_an_agent_that_is_not_there_is_told_before_a_server_starts(
    words: list[str],
    why: str,
    started: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A model takes minutes to load."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    Path("plain").touch(0o600)
    assert main(words) == 2
    assert why in capsys.readouterr().err
    assert not started


def test_an_agent_that_is_there_runs(started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name or its path; what a server without telemetry did is not summed up."""
    said: list[str] = []
    monkeypatch.setattr(session, "say", said.append)
    assert main(["run", "--", "sh"]) == 7
    assert main(["run", "--", "/bin/sh"]) == 7
    assert started == ["server", "sh", "server", "/bin/sh"]
    assert said == ["telemetry is off, so there is no summary"] * 2
