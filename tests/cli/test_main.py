"""The command line as a user sees it: help, errors in words, and the right call behind it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlxdeck.cli import main as program
from mlxdeck.cli.main import COMMANDS, main
from mlxdeck.server import launch
from mlxdeck.server.backends.local.engine.models.loader import ResolvedModel
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops import agent_session, conformance, doctor, model_list, supervision
from mlxdeck.settings.errors import SettingsError
from mlxdeck.tui.outputs import inspect
from tests.real import free_port

RECORDING = Path(__file__).parents[1] / "data" / "recording.jsonl"


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> list[list[Path]]:
    """What the dashboard was asked to show; it doesn't start."""
    shown: list[list[Path]] = []

    def run(paths: list[Path]) -> int:
        shown.append(paths)
        return 0

    app = ModuleType("mlxdeck.tui.app")
    app.run = run  # type: ignore[attr-defined]
    app.Dashboard = lambda paths, **_: paths  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlxdeck.tui.app", app)
    return shown


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What a server was asked to serve; it doesn't start."""
    calls: list[Settings] = []

    def serve(settings: Settings, announce: Any, at_end: Any) -> int:
        calls.append(settings)
        announce("ready")
        at_end()
        return 3

    monkeypatch.setattr(launch, "serve", serve)
    return calls


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("    ")] == list(
        COMMANDS
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example is a command that the parser takes, but for what it names."""
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    example = import_module(f"mlxdeck.cli.{name}").EXAMPLE
    assert f"example: {example}" in " ".join(capsys.readouterr().out.split())
    assert example.split()[:2] == ["mlxdeck", name]


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed or not, it is no crash."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("mlxdeck ")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["repaly"], "'repaly'; did you mean 'replay'?"),
        (["xyzzy"], "'xyzzy' (mlxdeck --help lists all)"),
        (["serve", "--prot", "1"], "'--prot'; did you mean '--port'?"),
        (["up", "--alert-qeue=3"], "'--alert-qeue'; did you mean '--alert-queue'?"),
        (["--verison"], "'--verison'; did you mean '--version'?"),
        (["--port", "1", "serve"], "unknown option '--port'. Options follow a command"),
        (["serve", "--zzz", "1"], "unknown option '--zzz'\n"),
        (["claude", "-p", "hi"], "'-p'. Options of the agent itself come after --"),
        (["models", "extra"], "unexpected argument 'extra'"),
    ],
)
def test_wrong_command_line(argv: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, a short usage, and what was perhaps meant, if anything is near."""
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    shown = capsys.readouterr().err
    assert "usage: mlxdeck" in shown and told in shown and len(shown.splitlines()) <= 3


@pytest.mark.parametrize(("bare", "asked"), [([], ["--help"]), (["help"], ["--help"]),
                                             (["help", "serve"], ["serve", "--help"])])  # fmt: skip
def test_help_is_where_it_is_looked_for(
    bare: list[str], asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a command, and as a command."""
    shown = []
    for argv in (bare, asked):
        with pytest.raises(SystemExit) as exit_:
            main(argv)
        assert exit_.value.code == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and "usage: mlxdeck" in shown[0]


def test_module_runs() -> None:
    """`python -m mlxdeck` is the command."""
    command = [sys.executable, "-m", "mlxdeck", "help", "tui"]
    environ = os.environ | {"PYTHONPATH": str(RECORDING.parents[2] / ".pkg")}
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("usage: mlxdeck tui")


def test_model_can_be_an_argument(
    served: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    """As other servers have it; naming two is an error."""
    assert main(["serve", "org/m", "--max-tokens", "9"]) == 3
    assert main(["serve", "--port", "8090", "org/m", "--model", "org/m"]) == 3
    assert [(each.model, each.max_output_tokens) for each in served] == [("org/m", 9), ("org/m", 0)]
    assert main(["serve", "org/m", "--model", "x"]) == 2
    assert "two models" in capsys.readouterr().err


def test_config_file_can_be_named(
    served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """By a flag or a variable; what is named has to be there."""
    file = tmp_path / "own.toml"
    file.write_text("port = 8097")
    assert main(["serve", "--config", str(file)]) == 3
    monkeypatch.setenv("MLXDECK_CONFIG", str(file))
    assert main(["serve"]) == 3
    assert [each.port for each in served] == [8097, 8097]
    assert main(["serve", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: No such file" in capsys.readouterr().err


def test_config_shows_values_and_sources(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag, a variable, a line of the file, a default; secrets only as such."""
    file = own_home / "mlxdeck" / "mlxdeck.toml"
    file.parent.mkdir(parents=True)
    file.write_text('# mine\nmax_batch = 3\nalert_queue = 2\napi_key = "hunter2"\n')
    monkeypatch.setenv("MLXDECK_DISK_CACHE", "0")
    assert main(["config", "--port", "8090", "--json"]) == 0
    shown = capsys.readouterr().out
    found = json.loads(shown)
    told = {name: (each["value"], each["source"]) for name, each in found["settings"].items()}
    assert told["port"] == (8090, "flag") and told["disk_cache"] == (False, "variable")
    assert told["max_batch"] == (3, "file") and told["alert_queue"] == (2, "file")
    assert told["host"] == ("127.0.0.1", "default")
    assert found["settings"]["max_batch"]["place"] == f"{file}:2"
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    assert "hunter2" not in shown + text and "api_key" in text and f"{file}:2" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_flags_and_words(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that `--help` shows, and what settings can be; nothing that is hidden there."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in (*COMMANDS, "adaptive", "log-level", "alert-queue"))
    assert "echo repeats the prompt" not in script


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("mlxdeck repl", "replay"),
        ("mlxdeck serve --api-key-f", "--api-key-file"),
        ("mlxdeck serve --log-level de", "debug"),
        ("mlxdeck up --alert-qu", "--alert-queue"),
        ("mlxdeck completion f", "fish"),
        ("mlxdeck help repl", "replay"),
    ],
)
def test_bash_completes(line: str, found: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the script that is printed."""
    assert main(["completion", "bash"]) == 0
    words = " ".join(f"'{word}'" for word in line.split())
    asked = f"COMP_WORDS=({words}); COMP_CWORD={len(line.split()) - 1}; _shtab_mlxdeck"
    script = f"{capsys.readouterr().out}\n{asked}; echo ${{COMPREPLY[*]}}"
    ran = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [found]


def test_config_init_writes_a_file_once(
    own_home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For this user alone; one that is there stays as it is."""
    file = own_home / "mlxdeck" / "mlxdeck.toml"
    assert main(["config", "init"]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["config", "init", str(tmp_path)]) == 0
    assert (tmp_path / "mlxdeck.toml").read_text() == file.read_text()
    monkeypatch.setenv("MLXDECK_CONFIG", str(tmp_path / "named.toml"))
    assert main(["config", "init"]) == 0 and (tmp_path / "named.toml").exists()
    monkeypatch.delenv("MLXDECK_CONFIG")
    file.write_text("port = 1")
    assert main(["config", "init"]) == 2
    assert "exists already" in capsys.readouterr().err and file.read_text() == "port = 1"
    with pytest.raises(SystemExit):
        main(["config", "int"])
    assert "invalid choice: 'int'" in capsys.readouterr().err


def test_bad_setting_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for what the user can mend."""
    assert main(["serve", "--port", "http"]) == 2
    shown = capsys.readouterr().err
    assert shown == "mlxdeck: --port: expected a whole number, got 'http'\n"


def test_serve(served: list[Settings], capsys: pytest.CaptureFixture[str]) -> None:
    """The settings of the flags, the lines on stdout, the status of the server."""
    assert main(["serve", "--port", "8090", "--engine", "echo"]) == 3
    assert (served[0].port, served[0].engine) == (8090, "echo")
    assert capsys.readouterr().out == "ready\nno requests recorded in this session\n"


@pytest.mark.parametrize(
    ("error", "status"), [(SettingsError("no"), 2), (KeyboardInterrupt(), 130)]
)
def test_status_of_an_end(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    """Ctrl+C is no crash either."""

    def serve(*_: object) -> int:
        raise error

    monkeypatch.setattr(launch, "serve", serve)
    assert main(["serve"]) == status


def test_up_without_a_terminal_is_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container or a pipe there is nothing to draw on; a crash is survived there too."""
    ran: list[tuple[list[str], str]] = []

    def run_supervised(command: list[str], environ: dict[str, str], say: Any) -> int:
        ran.append((command[1:], environ["MLXDECK_PORT"]))
        return 3

    monkeypatch.setattr(supervision, "run_supervised", run_supervised)
    assert main(["up", "--port", "8090"]) == 3
    assert ran == [(["-m", "mlxdeck.cli.main", "serve"], "8090")]


def test_up_runs_the_dashboard_beside_a_server(
    monkeypatch: pytest.MonkeyPatch, dashboard: list[list[Path]], tmp_path: Path
) -> None:
    """The dashboard is shown while the server runs, on the folder that it writes to."""
    order: list[str] = []
    # Files of others may lie there, too.
    (tmp_path / "notes.txt").write_text("nothing")

    @contextmanager
    def endpoint(settings: Settings, command: list[str], say: Any) -> Iterator[None]:
        order.append(f"start {' '.join(command[1:])} on {settings.port}")
        yield
        order.append(f"stop after {len(dashboard)} dashboard")

    monkeypatch.setattr(agent_session, "endpoint", endpoint)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["up", "--port", "8090", "--telemetry-dir", str(tmp_path)]) == 0
    assert order == ["start -m mlxdeck.cli.main serve on 8090", "stop after 1 dashboard"]
    assert dashboard == [[tmp_path]]


def test_tui(dashboard: list[list[Path]], own_home: Path) -> None:
    """What is named, or the folder of this user's server."""
    assert main(["tui", "a.jsonl", "b"]) == 0
    assert main(["tui"]) == 0
    assert dashboard == [[Path("a.jsonl"), Path("b")], [own_home / "mlxdeck" / "telemetry"]]


def test_replay(dashboard: list[list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    """A recording that is there, at a speed that there is."""
    recording = str(RECORDING)
    assert main(["replay", recording, "--speed", "4"]) == 0
    assert main(["replay", recording, "--speed", "max"]) == 0
    assert dashboard == [[RECORDING], [RECORDING]]
    assert main(["replay", "nowhere.jsonl"]) == 2
    assert "no such file or folder: nowhere.jsonl" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["replay", recording, "--speed", "99"])


def test_inspect(capsys: pytest.CaptureFixture[str]) -> None:
    """The last request as text, any other by the beginning of its id, as JSON or as a command."""
    assert main(["inspect", str(RECORDING)]) == 0
    shown = capsys.readouterr().out
    assert "prefill" in shown and "tokens" in shown and max(map(len, shown.splitlines())) <= 100
    assert main(["inspect", str(RECORDING), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["inspect", str(RECORDING), found["request_id"][:12], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert main(["inspect", str(RECORDING), "--curl"]) == 2
    assert "--capture full" in capsys.readouterr().err
    assert main(["inspect", str(RECORDING.with_name("captured.jsonl")), "--curl"]) == 0
    assert capsys.readouterr().out.startswith("curl http://127.0.0.1:8081/v1/messages")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "no such file or folder: nowhere"),
        ([], "yet: mlxdeck serve starts a server"),
        (["R", "nope"], "no request nope"),
        (["R", "req_"], "begin"),
    ],
)
def test_inspect_tells_what_it_did_not_find(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words."""
    assert main(["inspect", *(str(RECORDING) if each == "R" else each for each in args)]) == 2
    assert message in capsys.readouterr().err


def test_tui_in_a_browser(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    """The same command, run for each visitor, on this machine only."""
    served: list[tuple[str, str, int]] = []

    class Server:
        def __init__(self, command: str, *, host: str, port: int, title: str) -> None:
            served.append((command.split(" -m ")[1], host, port))

        def serve(self) -> None: ...

    monkeypatch.setattr("mlxdeck.tui.outputs.browser.OwnServer", Server)
    assert main(["tui", "a.jsonl", "--serve", "9000"]) == 0
    assert served == [("mlxdeck.cli.main tui a.jsonl", "127.0.0.1", 9000)]


def test_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a URL, or where the settings say; failures are the status."""
    calls: list[tuple[Any, ...]] = []

    def run(url: str, api_key: str, say: Any, *, only: list[str], as_json: bool) -> int:
        calls.append((url, api_key, only, as_json))
        return 1

    monkeypatch.setattr(conformance, "run", run)
    assert main(["check", "http://127.0.0.1:1"]) == 1
    monkeypatch.setenv("MLXDECK_API_KEY", "k")
    assert main(["check", "--port", "8090", "--only", "simple-chat,tool turn", "--json"]) == 1
    assert calls == [
        ("http://127.0.0.1:1", "", [], False),
        ("http://127.0.0.1:8090", "k", ["simple-chat", "tool turn"], True),
    ]


def test_models(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A row each, and below it a line: one that can't be served says why."""
    found = [ResolvedModel("org/m", Path("/"), "hub")]
    monkeypatch.setattr(model_list, "list_models", lambda _: found)
    monkeypatch.setattr(model_list, "size_bytes", lambda _: 1_500_000_000)
    assert main(["models"]) == 0
    titles, row, verdict = capsys.readouterr().out.splitlines()
    assert titles.split()[:3] == ["model", "from", "size"]
    assert row.split()[:4] == ["org/m", "hub", "1.50", "GB"]
    assert verdict.startswith("  ")
    assert verdict.endswith("it has no config.json")


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status says whether a server can work here."""
    monkeypatch.setattr(doctor, "report", lambda told, _, as_json: int(told.model == "x"))
    assert main(["doctor", "--model", "x"]) == 1
    assert main(["doctor"]) == 0


def test_bare_checkout_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run it like that."""

    def version(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(program, "version", version)
    assert program.own_version() == "(not installed)"


def test_a_dashboard_in_a_browser_has_the_same_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Thresholds too, and the file of settings."""
    asked: list[list[str]] = []

    def serve(argv: list[str], port: int) -> int:
        asked.append(argv)
        return port

    monkeypatch.setattr("mlxdeck.tui.outputs.browser.serve", serve)
    file, streams = tmp_path / "own.toml", tmp_path / "streams"
    file.touch()
    streams.mkdir()
    told = ["--alert-queue", "4", "--config", str(file)]
    assert main(["tui", str(streams), "--serve", "8123", *told]) == 8123
    assert asked[0][-3:] == [str(streams), "--alert-queue=4", f"--config={file}"]


@pytest.mark.parametrize("command", ["tui", "up"])
def test_numpy_keeps_to_small_pages_in_the_dashboard(command: str, tmp_path: Path) -> None:
    """It is told before it is imported, whatever command shows the dashboard."""
    script = f"""if True:
        import sys
        from contextlib import nullcontext
        from mlxdeck.cli.main import main
        from mlxdeck.server.ops import agent_session
        agent_session.endpoint = lambda *_: nullcontext()
        class Terminal:
            isatty = staticmethod(lambda: True)
            def __getattr__(self, name): return getattr(sys.__stdout__, name)
        def stop(*_, **__):
            import numpy
            print(numpy._core.multiarray._set_madvise_hugepage(True), flush=True)
            raise SystemExit(7)
        sys.stdin = sys.stdout = Terminal()
        from importlib.abc import MetaPathFinder
        class OnImport(MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == "mlxdeck.tui.app": stop()
        sys.meta_path.insert(0, OnImport())
        main(["{command}"] + ["{tmp_path}"] * ("{command}" == "tui"))
    """
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / ".pkg")}
    environ.pop("NUMPY_MADVISE_HUGEPAGE", None)
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout.split()) == (7, ["False"]), ran.stderr


def test_serve_takes_the_file_of_both(
    served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dashboard's keys in it are no error."""
    monkeypatch.chdir(tmp_path)
    Path("mlxdeck.toml").write_text("alert_queue = 3\nmax_batch = 2\n")
    assert main(["serve", "--port", "8090"]) == 3
    assert (served[0].port, served[0].max_batch) == (8090, 2)


def test_check_without_a_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Which names the address, and how to start one."""
    port = free_port()
    assert main(["check", f"127.0.0.1:{port}"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"no server answers at 127.0.0.1:{port}: ") and "serve" in line


def test_check_says_what_its_flags_mean_to_a_client(capsys: pytest.CaptureFixture[str]) -> None:
    """The settings' own texts are about a server that listens."""
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    shown = capsys.readouterr().out
    assert "Host of the server" in shown and "listen" not in shown


def test_no_line_of_a_heading_ends_between_two_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However narrow it is shown."""
    for width in (40, 60, 80, 100):
        monkeypatch.setattr(inspect, "PIPE_WIDTH", width)
        assert main(["inspect", str(RECORDING)]) == 0
        head = capsys.readouterr().out.partition("╭")[0].splitlines()
        assert head and not any(line.rstrip().endswith("·") for line in head)
        assert "req_" in head[0] and (width > 90) == (len(head) == 1)
