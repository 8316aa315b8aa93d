"""A server for as long as it is needed: started or found, shown while it loads, stopped or left."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops import background, supervision
from mlxdeck.server.ops.background import StartFailed, log_path, running_server, state, stop
from tests.real import ROOT, free_port, get

REAL = [sys.executable, "-m", "mlxdeck.cli.main", "serve"]
FAKE = """
import http.server, json, os, sys, time
status = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        now = status.pop(0) if len(status) > 1 else status[0]
        body = json.dumps({"status": now, "model_loaded": now == "healthy"}).encode()
        self.send_response(503 if now == "unhealthy" else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
print("loading", os.environ["MLXDECK_MODEL"])
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["MLXDECK_PORT"])), Handler)
server.serve_forever()
"""


def fake(*states: str) -> list[str]:
    """A command that answers `/health` with one state after the other."""
    return [sys.executable, "-c", FAKE, *states]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A port of its own and the engine without weights."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / ".pkg"))
    return Settings(port=free_port(), engine="echo", home=tmp_path / "home", model="some-model")


@pytest.fixture
def running(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A server that somebody else has started."""
    environ = os.environ | settings.to_environ()
    process = subprocess.Popen(fake("loading", "loading", "healthy"), env=environ)
    while state(settings.url) is None:
        time.sleep(0.01)
    yield process
    stop(process, 5)


def test_real_server_is_started_and_stopped(settings: Settings) -> None:
    """It serves within the block, its lines are passed on, and afterwards the port is free."""
    said: list[str] = []
    with running_server(settings, REAL, said.append):
        assert state(settings.url) == "healthy"
    assert state(settings.url) is None
    assert any(line.startswith(f"mlxdeck ready on {settings.url}") for line in said)
    log = log_path(settings.home)
    assert "mlxdeck ready" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_server_that_crashes_is_started_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a segmentation fault; and it is stopped all the same when the block is left."""
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 0.01)
    with running_server(settings, REAL, lambda _: None):
        first = pid(settings.url)
        os.kill(first, signal.SIGSEGV)
        while (again := pid(settings.url)) in (None, first):
            time.sleep(0.05)
    assert state(settings.url) is None
    assert again is not None
    with pytest.raises(ProcessLookupError):
        os.kill(again, 0)
    assert "ended with signal SIGSEGV; it is started again" in log_path(settings.home).read_text()


def pid(url: str) -> Any:
    """The process behind a server, if it is healthy."""
    try:
        told = get(f"{url}/v1/status")
    except OSError:
        return None
    return told["pid"] if told["status"] == "healthy" else None


def test_settings_reach_the_server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the caller, whatever the environment says by then; the key is not an argument."""
    monkeypatch.setenv("MLXDECK_MODEL", "another")
    said: list[str] = []
    with running_server(settings, fake("healthy"), said.append):
        pass
    assert "loading some-model" in said


def test_running_server_is_used_and_left_alone(
    settings: Settings, running: subprocess.Popen[bytes]
) -> None:
    """Also one that still loads; nothing is started beside it."""
    said: list[str] = []
    with running_server(settings, ["false"], said.append):
        assert state(settings.url) == "healthy"
    assert running.poll() is None
    assert said == [f"using the server that runs on {settings.url}"]


def test_server_that_ends_tells_why(settings: Settings) -> None:
    """What it wrote last is what the user sees, and once."""
    command = [sys.executable, "-c", "import sys; print('first'); sys.exit('no such model')"]
    said: list[str] = []
    with (
        pytest.raises(StartFailed, match="did not start") as failed,
        running_server(settings, command, said.append),
    ):
        pytest.fail("it never ran")
    assert "\n".join([*said, str(failed.value)]).count("no such model") == 1


def test_where_in_the_code_a_start_failed_stays_in_the_log(settings: Settings) -> None:
    """The user gets the sentence."""
    code = 'print("ERROR: it hangs\\n  File a, line 1\\n    wait()"); raise SystemExit(1)'
    said: list[str] = []
    with (
        pytest.raises(StartFailed) as failed,
        running_server(settings, [sys.executable, "-c", code], said.append),
    ):
        pytest.fail("it never ran")
    told = "\n".join([*said, str(failed.value)])
    assert "ERROR: it hangs" in told and "File a" not in told and "wait()" not in told
    assert "  File a, line 1\n    wait()\n" in log_path(settings.home).read_text()


def test_server_without_a_model_is_stopped(settings: Settings) -> None:
    """One that answers but can't serve is no use to anyone."""
    with (
        pytest.raises(StartFailed, match="could not load its model"),
        running_server(settings, fake("loading", "unhealthy"), lambda _: None),
    ):
        pytest.fail("it never ran")
    assert state(settings.url) is None


def test_server_is_stopped_after_an_error(settings: Settings) -> None:
    """However the block is left."""
    with (
        pytest.raises(ZeroDivisionError),
        running_server(settings, fake("healthy"), lambda _: None),
    ):
        raise ZeroDivisionError
    assert state(settings.url) is None


def test_server_that_ignores_the_signal_is_killed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving takes bounded time."""
    for name in ("STOP_TIMEOUT_S", "TELL_AFTER_S"):
        monkeypatch.setattr(background, name, 0.1)
    command = fake("healthy")
    command[2] = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FAKE
    impatient = replace(settings, stop_timeout_s=0)
    with running_server(impatient, command, lambda _: None):
        pass
    assert state(settings.url) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_closed_terminal_stops_the_server(settings: Settings, number: signal.Signals) -> None:
    """A kill of the program that started it doesn't leave a model in memory."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from mlxdeck.server.ops.background import running_server\n"
        "from mlxdeck.server.config.settings import Settings\n"
        "settings = Settings.load({}, os.environ, Path.cwd())\n"
        "with running_server(settings, sys.argv[1:], lambda line: None):\n"
        "    print('in the block', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *fake("healthy")],
        env=os.environ | settings.to_environ(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the block\n"
        process.send_signal(number)
    assert process.returncode == 128 + number
    assert state(settings.url) is None


def test_long_log_is_put_aside(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of many sessions doesn't grow without end."""
    monkeypatch.setattr(background, "MAX_LOG_BYTES", 3)
    settings.home.mkdir()
    log_path(settings.home).write_text("old log")
    with running_server(settings, fake("healthy"), lambda _: None):
        pass
    assert (settings.home / "server.log.1").read_text() == "old log"
    assert "old log" not in log_path(settings.home).read_text()


def test_something_else_on_the_port_is_no_server() -> None:
    """A port where nobody answers, and one where somebody else does."""
    assert state(f"http://127.0.0.1:{free_port()}") is None
