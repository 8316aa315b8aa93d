"""A server's process: started again when a fault ends it, left alone when somebody did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxdeck.server.lifecycle.exit_status import STATUS_ENGINE_LOST, is_fault
from mlxdeck.server.ops import supervision
from mlxdeck.server.ops.supervision import MAX_RESTARTS, WINDOW_S, Restarts, Supervised
from tests.real import ROOT


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (0, False),
        (1, False),
        (2, False),
        (STATUS_ENGINE_LOST, True),
        (-signal.SIGSEGV, True),
        (-signal.SIGABRT, True),
        (-signal.SIGKILL, True),
        (-signal.SIGTERM, False),
        (-signal.SIGINT, False),
        (128 + signal.SIGINT, False),
    ],
)
def test_faults_are_told_from_ends_that_were_asked_for(status: int, fault: bool) -> None:
    """A crash, an engine that was lost; not a failed start, and nothing that somebody wanted."""
    assert is_fault(status) is fault


def test_restarts_are_bounded_and_get_rarer() -> None:
    """So many within a while; what is long ago doesn't count."""
    restarts = Restarts()
    pauses = [restarts.pause_s(STATUS_ENGINE_LOST, float(n)) for n in range(MAX_RESTARTS + 1)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, None]
    assert restarts.pause_s(STATUS_ENGINE_LOST, WINDOW_S + 2) is not None
    assert restarts.pause_s(0, WINDOW_S + 3) is None


CRASHES = """
import os, sys, time
from pathlib import Path
here = Path(sys.argv[1])
n = len(list(here.iterdir()))
(here / str(n)).touch()
if n < int(sys.argv[2]):
    if n % 2:
        sys.exit(75)
    os.kill(os.getpid(), 11)
(here / "up").touch()
time.sleep(600)
"""


def crashing(folder: Path, n_times: int) -> list[str]:
    """A command that crashes so often, and then stays."""
    folder.mkdir()
    return [sys.executable, "-c", CRASHES, str(folder), str(n_times)]


def wait_for(path: Path) -> None:
    """Wait until there is a file."""
    for _ in range(2_000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def test_a_process_that_crashes_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ended by whoever ends it, for good."""
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 0.01)
    said: list[str] = []
    command = crashing(tmp_path / "runs", 2)
    kept = Supervised(lambda: subprocess.Popen(command), said.append)
    kept.keep()
    wait_for(tmp_path / "runs" / "up")
    process = kept.end()
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM
    kept._thread.join(10)
    assert not kept._thread.is_alive()
    assert len(list((tmp_path / "runs").iterdir())) == 4
    assert ["SIGSEGV" in said[0], "status 75" in said[1], len(said)] == [True, True, 2]


SUPERVISE = """
import os, sys
from mlxdeck.server.ops import supervision
supervision.FIRST_PAUSE_S = 0.01
sys.exit(supervision.run_supervised(sys.argv[1:], os.environ, lambda line: print(line, flush=True)))
"""


@pytest.mark.parametrize("n_crashes", [1, MAX_RESTARTS + 1])
def test_a_server_in_the_foreground_is_kept_too(tmp_path: Path, n_crashes: int) -> None:
    """Until it crashes too often, or a signal is passed on to it."""
    command = [sys.executable, "-c", SUPERVISE, *crashing(tmp_path / "runs", n_crashes)]
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": f"{ROOT / '.pkg'}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if n_crashes <= MAX_RESTARTS:
        wait_for(tmp_path / "runs" / "up")
        process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    n_restarts = min(n_crashes, MAX_RESTARTS)
    assert said.count("it is started again") == n_restarts
    # The last fault of too many is a 75 here; otherwise it was ended by the signal.
    last = 128 + signal.SIGTERM if n_crashes <= MAX_RESTARTS else STATUS_ENGINE_LOST
    assert process.returncode == last
