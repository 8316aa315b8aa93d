"""From the start to the ready line: whatever goes wrong ends the process, with one line."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sanic import Sanic

from mlxdeck.server import launch, service
from mlxdeck.server.backends.local import backend
from mlxdeck.server.backends.local.engine.api import ModelInfo, Progress
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import EngineFailed
from mlxdeck.settings.errors import SettingsError
from tests.real import ROOT, free_port


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The engine without weights, on a port of its own."""
    return Settings(engine="echo", port=free_port(), home=tmp_path / "home", log_level="error")


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one process start server after server, which Sanic does only for tests."""
    monkeypatch.setattr(Sanic, "test_mode", True)


SITES: dict[str, tuple[Any, str]] = {
    "make_engine": (launch, "make_engine"),
    "create_app": (launch, "create_app"),
    "stream_header": (launch, "stream_header"),
    "open_emitter": (launch, "open_emitter"),
    "load": (EchoEngine, "load"),
    "spare_bytes": (EchoEngine, "spare_bytes"),
    "observer": (service, "Observer"),
    "caches": (service, "AnswerCaches"),
    "states": (backend, "KVTiers"),
    "pipeline": (service, "Pipeline"),
    "format": (backend, "choose_format"),
    "sampling": (backend, "defaults"),
}
RAISED = [
    EngineFailed("cannot load it"),
    FileNotFoundError(2, "No such file or directory", "/models/README.md"),
    ValueError("of two\n  lines"),
    MemoryError(),
    SystemExit(3),
]
IDS = [type(each).__name__ for each in RAISED]


@pytest.mark.parametrize("error", RAISED, ids=IDS)
@pytest.mark.parametrize("site", SITES)
def test_any_failure_of_a_start_is_one_line_and_status_1(
    site: str, error: BaseException, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is raised and whatever it is; the port is free afterwards."""
    if isinstance(error, SystemExit) and site not in ("load", "spare_bytes", "make_engine"):
        pytest.skip("a library that leaves does so where it is loaded")

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(*SITES[site], fail)
    said: list[str] = []
    assert launch.serve(settings, said.append, lambda: said.append("end")) == 1
    assert "end" not in said
    (line,) = [each for each in said if "cannot start" in each]
    assert line.startswith("mlxdeck cannot start: ")
    assert "\n" not in line
    assert not any("ready on" in each for each in said)
    with socket.socket() as probe:
        probe.bind((settings.host, settings.port))


def stopping(said: list[str], when: str, number: signal.Signals) -> Callable[[str], None]:
    """Takes lines, and sends this process a signal when a certain one comes."""

    def say(line: str) -> None:
        said.append(line)
        if when in line:
            os.kill(os.getpid(), number)

    return say


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_that_is_ready(settings: Settings, number: signal.Signals) -> None:
    """With status 0; once all is written, its command has the last word."""
    said: list[str] = []
    n_files: list[int] = []

    def at_end() -> None:
        n_files.append(len(list(settings.telemetry_folder.glob("*.jsonl"))))

    assert launch.serve(settings, stopping(said, "ready on", number), at_end) == 0
    assert said[-1].startswith("mlxdeck ready on") and n_files == [1]


def test_a_terminal_shows_our_words_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where output goes to one, Sanic has advice for developers of its own."""
    monkeypatch.setattr("sanic.mixins.startup.is_atty", lambda: True)
    monkeypatch.delenv("SANIC_IGNORE_PRODUCTION_WARNING", raising=False)
    told: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.getLogger("sanic.error"), "handle", told.append)
    assert launch.serve(settings, stopping([], "ready on", signal.SIGINT)) == 0
    assert [each.getMessage() for each in told] == []


def test_a_reader_that_is_gone_is_no_reason_to_end(settings: Settings) -> None:
    """As in `mlxdeck serve | head -1`."""

    def say(line: str) -> None:
        if "ready on" in line:
            os.kill(os.getpid(), signal.SIGINT)
        raise BrokenPipeError

    assert launch.serve(settings, say) == 0


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the remedy."""
    monkeypatch.setattr(launch, "make_engine", lambda _: pytest.fail("loaded"))
    with socket.socket() as other:
        other.bind((settings.host, settings.port))
        other.listen()
        with pytest.raises(SettingsError, match="Choose another with --port"):
            launch.serve(settings, print)


class TakesThePort(EchoEngine):
    """Somebody else begins to listen between our looking and our listening."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.other = socket.socket()
        self.other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.other.bind(("127.0.0.1", port))
        self.other.listen()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a bound port is taken at once")
def test_a_port_that_is_taken_meanwhile_is_told_alike(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two starts at the same time."""
    engine = TakesThePort(settings.port)
    monkeypatch.setattr(launch, "make_engine", lambda _: engine)
    with engine.other, pytest.raises(SettingsError, match="Choose another with --port"):
        launch.serve(settings, print)


class Hanging(EchoEngine):
    """Is never loaded."""

    def load(self, progress: Progress) -> ModelInfo:
        progress("loading")
        threading.Event().wait(600)
        return super().load(progress)


HANGING = """
import sys
from mlxdeck.server import launch
from mlxdeck.server.config.settings import Settings
from tests.server.test_launch import Hanging
launch.make_engine = lambda _: Hanging()
settings = Settings(port=int(sys.argv[1]), disk_cache=False, telemetry=False)
sys.exit(launch.serve(settings, lambda line: print(line, flush=True)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_while_loading_is_quick_and_quiet(number: signal.Signals) -> None:
    """Whatever the engine thread is doing then."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(free_port())],
        env=os.environ | {"PYTHONPATH": f"{ROOT / '.pkg'}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    time.sleep(0.2)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=20)
    assert (process.returncode, rest) == (128 + number, "")


LATE = """
import atexit, sys
from mlxdeck.server import launch
from mlxdeck.server.config.settings import Settings
from tests.server.test_launch import Late
atexit.register(print, "taken apart", flush=True)
launch.make_engine = lambda _: Late()
settings = Settings(port=int(sys.argv[1]), disk_cache=False, telemetry=False)
sys.exit(launch.serve(settings, lambda line: print(line, flush=True)))
"""


class Late(EchoEngine):
    """Fails, and its library is not through with the thread."""

    ends_late = True

    def load(self, progress: Progress) -> ModelInfo:
        raise EngineFailed("no model")


def test_python_is_not_taken_apart_under_a_library() -> None:
    """The process ends at once, with everything said and its own status."""
    process = subprocess.run(
        [sys.executable, "-c", LATE, str(free_port())],
        env=os.environ | {"PYTHONPATH": f"{ROOT / '.pkg'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stdout) == (1, "mlxdeck cannot start: no model\n")
