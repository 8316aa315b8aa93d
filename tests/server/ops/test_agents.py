"""What agents are told: variables, warnings, and which server they may use."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.cli.main import main
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops import agent_session
from mlxdeck.server.ops.agent_process import AgentMissing, run_agent
from mlxdeck.server.ops.agent_session import AnotherServer, count_running, endpoint, open_dashboard
from mlxdeck.server.ops.agents import (
    CLAUDE_MODELS,
    CLAUDE_SMALL_MODELS,
    Endpoint,
    claude_variables,
    command_line,
    environment,
    exports,
    narrow_window,
    variables,
)
from mlxdeck.settings.errors import UserError
from mlxdeck.tui.state.beside import Beside
from tests.real import Server, free_port, serving

ENDPOINT = Endpoint("http://127.0.0.1:8081", "", "org/model", 65_536)


def test_agents_of_both_apis_are_pointed_at_the_server() -> None:
    """With the model's name and window."""
    told = variables(ENDPOINT)
    assert told["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8081"
    assert told["OPENAI_BASE_URL"] == "http://127.0.0.1:8081/v1"
    assert {told[name] for name in (*CLAUDE_MODELS, "OPENAI_MODEL")} == {"org/model"}
    assert told["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "65536"
    assert told["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "16384"
    assert told["ANTHROPIC_AUTH_TOKEN"] == told["OPENAI_API_KEY"] == "local"


def test_small_requests_are_sent_to_the_small_model() -> None:
    """Those of Claude Code and of opencode, if the server has one for them."""
    of = replace(ENDPOINT, small_model="small/tiny")
    told = variables(of)
    assert {told[name] for name in CLAUDE_SMALL_MODELS} == {"small/tiny"}
    assert told["ANTHROPIC_MODEL"] == told["OPENAI_MODEL"] == "org/model"
    config = json.loads(environment(of, ["opencode"], {})["OPENCODE_CONFIG_CONTENT"])
    assert config["small_model"] == "mlxdeck/small/tiny"
    assert list(config["provider"]["mlxdeck"]["models"]) == ["org/model", "small/tiny"]


def test_an_unknown_window_is_not_told() -> None:
    """Zero tokens would be worse than the client's own guess."""
    assert not [each for each in variables(Endpoint("http://h", "k", "m", 0)) if "CONTEXT" in each]


def test_a_users_environment_is_kept_but_for_other_providers() -> None:
    """Proxies are not asked for the way to this machine."""
    own = {
        "PATH": "/bin",
        "ANTHROPIC_API_KEY": "sk-ant-real",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "99",
        "NO_PROXY": "example.com",
    }
    told = environment(ENDPOINT, ["mine"], own)
    assert "sk-ant-real" not in told.values()
    assert "CLAUDE_CODE_USE_BEDROCK" not in told
    assert (told["PATH"], told["CLAUDE_CODE_MAX_OUTPUT_TOKENS"]) == ("/bin", "99")
    assert told["NO_PROXY"] == told["no_proxy"] == "example.com,127.0.0.1"


@pytest.mark.parametrize(
    ("context_tokens", "command", "warned"),
    [
        (8_192, ["claude"], "--bare"),
        (8_192, ["claude", "--bare"], ""),
        (1_024, ["claude", "--bare"], "1,500"),
        (32_768, ["claude"], ""),
        (0, ["claude"], ""),
        (8_192, ["claude", "--version"], ""),
        (8_192, ["/opt/bin/codex", "exec", "hi"], "prompt of codex needs about 10,000"),
        (8_192, ["opencode", "run", "hi"], "--model"),
        (32_768, ["codex"], ""),
        (1_024, ["sh", "-c", "true"], ""),
    ],
)
def test_a_window_that_is_too_small_is_told_before(
    context_tokens: int, command: list[str], warned: str
) -> None:
    """With what fits, if anything does."""
    told = narrow_window(Endpoint("http://h", "", "m", context_tokens), command)
    assert bool(told) == bool(warned)
    assert warned in told


def test_codex_gets_its_provider_as_arguments() -> None:
    """In front of the user's own, each a value of TOML."""
    program, *told, last = command_line(ENDPOINT, ["/opt/codex", "exec"])
    assert (program, last) == ("/opt/codex", "exec")
    assert told[::2] == ["-c"] * 4
    config = tomllib.loads("\n".join(told[1::2]))
    assert config["model"] == "org/model"
    assert config["model_context_window"] == 65_536
    provider = config["model_providers"]["mlxdeck"]
    assert provider["base_url"] == "http://127.0.0.1:8081/v1"
    assert (provider["wire_api"], provider["env_key"]) == ("responses", "OPENAI_API_KEY")


def test_opencode_gets_its_provider_in_a_variable() -> None:
    """No file of the user's is read or written."""
    told = environment(ENDPOINT, ["opencode"], {})
    config = json.loads(told["OPENCODE_CONFIG_CONTENT"])
    assert config["model"] == config["small_model"] == "mlxdeck/org/model"
    provider = config["provider"]["mlxdeck"]
    assert provider["options"]["baseURL"] == "http://127.0.0.1:8081/v1"
    assert provider["models"]["org/model"]["limit"] == {"context": 65_536, "output": 16_384}


def test_arguments_of_an_unknown_agent_stay_as_they_are() -> None:
    """Nothing is put in between."""
    assert command_line(ENDPOINT, ["mine", "-x"]) == ["mine", "-x"]


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -TERM $$", 143)])
def test_the_status_of_an_agent_is_passed_through(script: str, status: int) -> None:
    """Also that of a signal, as a shell tells it."""
    assert run_agent(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}) == status


def test_a_missing_agent_says_how_it_is_installed() -> None:
    """If it is one of those that we know."""
    with pytest.raises(AgentMissing, match="npm install -g @anthropic-ai/claude-code"):
        run_agent(["claude"], {"PATH": "/nowhere"})


def test_an_agent_that_the_system_cannot_run_is_told(tmp_path: Path) -> None:
    """As one whose file is no program."""
    file = tmp_path / "agent"
    file.write_bytes(b"\x7fELF and nothing else")
    file.chmod(0o700)
    with pytest.raises(AgentMissing, match=r"agent: Exec format error$"):
        run_agent([str(file)], {})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_reach_the_agent(number: signal.Signals) -> None:
    """It decides what they mean, and its status is the command's."""
    code = (
        "import sys; from mlxdeck.server.ops.agent_process import run_agent; "
        "sys.exit(run_agent(['sh', '-c', sys.argv[1]], None))"
    )
    script = "trap 'kill $!; exit 9' TERM HUP INT; sleep 60 & echo on; wait"
    process = subprocess.Popen(
        [sys.executable, "-c", code, script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "on\n"
        process.send_signal(number)
        assert process.wait(10) == 9


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that needs no model."""
    home = tmp_path_factory.mktemp("home")
    with serving("--engine", "echo", "--no-disk-cache", home=home) as server:
        yield server


def settings_for(
    server: Server, home: Path | None = None, given: Mapping[str, object] = {}
) -> Settings:
    """Settings of a command that should find it."""
    port = int(server.url.rpartition(":")[2])
    environ = {"MLXDECK_HOME": str(home or server.telemetry.parent)}
    return Settings.load({"port": port, **given}, environ, Path("/"))


def test_a_server_that_fits_is_used_and_left_running(running: Server) -> None:
    """Any model will do if none is named."""
    said: list[str] = []
    choices: tuple[dict[str, object], ...] = ({}, {"model": "smollm2"}, {"model": "echo"})
    for given in choices:
        with endpoint(settings_for(running, given=given), ["false"], said.append) as found:
            assert (found.url, found.key, found.is_recorded) == (running.url, "", True)
            assert found.context_tokens > 0
    assert said == [f"using the server that runs on {running.url}"] * 3
    assert running.process.poll() is None


@pytest.mark.parametrize("own", [True, False])
def test_whether_a_server_records_is_its_own_word(
    running: Server, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what our settings say; of one that is started by them, its file may come later."""
    settings = settings_for(running, given={"telemetry": own})
    with endpoint(settings, ["false"], print) as found:
        assert found.is_recorded
    monkeypatch.setattr(agent_session, "_status", lambda _: {"telemetry": None})
    with endpoint(settings, ["false"], print) as found:
        assert not found.is_recorded
    monkeypatch.setattr(agent_session, "state", lambda _: None)
    monkeypatch.setattr(agent_session, "running_server", lambda *_: nullcontext())
    with endpoint(settings, ["false"], print) as found:
        assert found.is_recorded == own


def test_a_server_with_another_model_or_home_is_refused(running: Server, tmp_path: Path) -> None:
    """Each error says what to do."""
    other = settings_for(running, given={"model": "org/other"})
    with (
        pytest.raises(AnotherServer, match="not org/other. Stop it, or choose another port"),
        endpoint(other, ["false"], print),
    ):
        pytest.fail("it was used")
    with (
        pytest.raises(AnotherServer, match="another home"),
        endpoint(settings_for(running, tmp_path), ["false"], print),
    ):
        pytest.fail("it was used")


def test_the_dashboard_follows_a_server_of_another_home(
    running: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where that one records; how it isn't as the settings say is told before and on screen."""
    shown: list[tuple[Any, Beside]] = []

    def show(_: object, paths: Any, *, beside: Beside, **__: object) -> int:
        shown.append((paths, beside))
        return 0

    monkeypatch.setenv("MLXDECK_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("mlxdeck.cli.tui.show", show)
    port = running.url.rpartition(":")[2]
    assert main(["up", "--port", port, "--model", "org/other", "--max-batch", "3"]) == 0
    ((paths, beside),) = shown
    assert paths == [running.telemetry.resolve()]
    said = "; ".join(beside.notes)
    assert "it serves echo, not org/other" in said
    assert "it runs with --max-batch 16, not 3" in said
    assert f"it records in {running.telemetry.resolve()}" in said
    assert beside.count_running is None
    printed = capsys.readouterr().out
    assert all(note in printed for note in beside.notes)


def test_a_server_says_how_many_requests_it_has(running: Server) -> None:
    """And one that is gone has none."""
    assert count_running(settings_for(running)) == 0
    assert count_running(Settings(port=free_port())) == 0


def test_without_a_server_nothing_is_printed_for_a_shell() -> None:
    """`mlxdeck env` starts none."""
    settings = Settings(port=free_port())
    with pytest.raises(UserError, match="mlxdeck serve"), endpoint(settings, None, print):
        pytest.fail("there is none")


def test_the_dashboard_without_tmux_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be pasted into another terminal."""
    monkeypatch.delenv("TMUX", raising=False)
    said: list[str] = []
    open_dashboard(["mlxdeck", "tui", "/a b"], said.append)
    assert said == ["the dashboard, in another terminal: mlxdeck tui '/a b'"]


@pytest.mark.parametrize(("window", "told"), [(8_192, "100000"), (262_144, "262144")])
def test_the_compact_window_is_one_that_claude_code_takes(window: int, told: str) -> None:
    """It warns of less than 100,000, and compacts by the model's window if that is smaller."""
    given = claude_variables(Endpoint("http://h", "", "m", window))
    assert given["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] == told
    assert given["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == str(window)


def test_a_shell_gets_what_an_agent_gets() -> None:
    """Also what would lead the client elsewhere is taken away; the user's own limit holds."""
    own = {
        "ANTHROPIC_API_KEY": "k",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "HTTPS_PROXY": "http://proxy",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "777",
    }
    lines = exports(ENDPOINT, own)
    assert lines[:2] == ["unset ANTHROPIC_API_KEY", "unset CLAUDE_CODE_USE_BEDROCK"]
    assert "export NO_PROXY=127.0.0.1" in lines
    assert "export CLAUDE_CODE_MAX_OUTPUT_TOKENS=777" in lines
    plain = exports(ENDPOINT, {"PATH": "/bin"})
    assert plain == [f"export {name}={value}" for name, value in variables(ENDPOINT).items()]
