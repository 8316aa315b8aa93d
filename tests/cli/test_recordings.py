"""Recordings that commands are given: pipes, folders, and what is none."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mlxdeck.cli.main import main
from tests.streams import NAME, Made, write

RECORDING = Path(__file__).parents[1] / "data" / "recording.jsonl"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for every test."""
    monkeypatch.setenv("MLXDECK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What a command says on the way out."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mlxdeck: ") and said.count("\n") == 1
    return said


def run(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own, with something on its standard input."""
    command = [sys.executable, "-m", "mlxdeck.cli.main", *words]
    return subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("command", ["tui", "replay", "inspect", "report", "stats", "why"])
def test_what_is_no_recording_is_refused_before_anything_is_drawn(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture, a text, a folder of neither; the words are the same everywhere."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    assert "a PNG picture; expected telemetry" in refusal(capsys, command, tmp_path / "a.png")
    (tmp_path / "b").write_text("hello\n")
    assert "no event of mlxdeck" in refusal(capsys, command, tmp_path / "b")
    assert "holds a.png, b" in refusal(capsys, command, tmp_path)


def test_standard_input_is_a_recording() -> None:
    """For commands that print; without a terminal, the dashboard has no keys."""
    told = run("inspect", "-", data=RECORDING.read_bytes())
    assert told.returncode == 0 and b"tokens" in told.stdout and not told.stderr
    empty = run("report", "-")
    assert empty.returncode == 2 and b"recorded in standard input" in empty.stderr


def test_the_dashboard_reads_a_pipe_and_its_keys_from_the_terminal(
    home: Path, tmp_path: Path
) -> None:
    """`q` leaves it, although the pipe is still open; its copy of the data goes."""
    keyboard, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, b"\x28\0\x78\0\0\0\0\0")
    command = [sys.executable, "-m", "mlxdeck.cli.main", "replay", "-"]
    copies = tmp_path / "copies"
    copies.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _IN_TERMINAL, str(terminal), *command],
        stdin=subprocess.PIPE,
        stdout=terminal,
        stderr=terminal,
        pass_fds=[terminal],
        env=os.environ | {"MLXDECK_HOME": str(home), "TERM": "xterm", "TMPDIR": str(copies)},
    )
    os.close(terminal)
    assert process.stdin
    process.stdin.write(RECORDING.read_bytes())
    process.stdin.flush()
    shown, until_s = b"", time.monotonic() + 60
    while b"answers" not in shown and time.monotonic() < until_s:
        if select.select([keyboard], [], [], 1)[0]:
            shown += os.read(keyboard, 1 << 16)
    assert b"answers" in shown and list(copies.iterdir())
    os.write(keyboard, b"q")
    while process.poll() is None and time.monotonic() < until_s:
        # Linux tells of the other side's end by an error.
        with suppress(OSError):
            if select.select([keyboard], [], [], 0.1)[0]:
                os.read(keyboard, 1 << 16)
    assert process.wait(1) == 0 and not list(copies.iterdir())
    process.stdin.close()
    os.close(keyboard)


_IN_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_port_that_cannot_be_had_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """In words, before anything starts; impossible ones by the parser."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "--serve PORT takes another" in refusal(
            capsys, "tui", RECORDING, "--serve", str(port)
        )
    for port in ("0", "70000", "x"):
        with pytest.raises(SystemExit):
            main(["tui", "--serve", port])
        assert "from 1 to 65535" in capsys.readouterr().err
    assert "standard input" in refusal(capsys, "tui", "-", "--serve")


def test_a_folder_is_read_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of any name, of several servers; what was skipped is told beside the output."""
    write(tmp_path / "one.jsonl", [Made(3)])
    write(tmp_path / NAME, [Made(5), Made(6)], pid=8)
    (tmp_path / "notes.txt").touch()
    assert main(["report", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "3 requests" in said.out and "1 other file skipped: notes.txt" in said.err
    assert main(["inspect", str(tmp_path)]) == 0
    assert "req_8_0001" in capsys.readouterr().out
