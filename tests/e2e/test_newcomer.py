"""The commands of README and docs/ do what a newcomer expects, in an empty home."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from tests.e2e.npm_clients import CLAUDE_CODE
from tests.newcomer import SCREENS, Command, filled
from tests.real import Server, serving
from tests.test_newcomer import ROOT, all_commands

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
RECORDING = ROOT / "tests/data/recording.jsonl"
TIMEOUT_S = 150
SCREEN_S = 90
COMMANDS = [each for each in all_commands() if not each.reason]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one that the commands find; its home is the newcomer's."""
    with serving(home=tmp_path_factory.mktemp("newcomer") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def environ(server: Server) -> dict[str, str]:
    """Nothing but a home, the programs, and where the server is."""
    state = server.telemetry.parent
    programs = state.parent / "bin"
    programs.mkdir()
    mlxdeck = programs / "mlxdeck"
    mlxdeck.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mlxdeck.cli.main "$@"\n')
    mlxdeck.chmod(0o755)
    (programs / "claude").symlink_to(CLAUDE_CODE.executable())
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(state.parent),
        "TERM": "xterm-256color",
        "PYTHONPATH": os.pathsep.join((str(ROOT / ".pkg"), str(ROOT))),
        "MLXDECK_HOME": str(state),
        "MLXDECK_PORT": server.url.rpartition(":")[2],
    }


@pytest.fixture(scope="module")
def words(server: Server) -> dict[str, str]:
    """What a newcomer would write for the words in capitals."""
    answer = server.telemetry.parent.parent / "answer.txt"
    answer.write_text('<tool_call>{"name": "Read", "arguments": {}}</tool_call>', "utf-8")
    lines = map(json.loads, RECORDING.read_text("utf-8").splitlines())
    request = next(line["request_id"] for line in lines if line["event"] == "request.end")
    return {
        "FILE": str(RECORDING),
        "FOLDER": str(RECORDING.parent),
        "ID": request,
        "HOST": "127.0.0.1",
        "PORT": server.url.rpartition(":")[2],
        "COMMAND": "echo",
        "ARGUMENTS": "done",
        "ANSWER": str(answer),
    }


@pytest.mark.parametrize(
    "command", COMMANDS, ids=[f"{each.page}: {each.text}" for each in COMMANDS]
)
def test_a_command_works_as_it_is_shown(
    command: Command, server: Server, environ: dict[str, str], words: dict[str, str]
) -> None:
    """It ends with 0, and says something unless it only sets or writes something."""
    own = words | ({"FILE": words["ANSWER"]} if command.text.startswith("mlxdeck parse") else {})
    text = filled(command.text, own).replace("http://127.0.0.1:8081", server.url)
    if command.text in SCREENS:
        assert shown_until_q(text, environ) == 0
        return
    ran = subprocess.run(
        ["sh", "-c", text],
        env=environ,
        cwd=environ["HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, f"{text}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    assert "Traceback" not in ran.stderr
    if text.split()[0] not in ("export", "eval", "mkdir") and ">" not in text:
        assert ran.stdout.strip()


def shown_until_q(command: str, environ: dict[str, str]) -> int:
    """Run a dashboard in a terminal of its own, leave it with a key; its exit status."""
    own, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        ["sh", "-c", command],
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen, deadline_s, pressed_s = b"", time.monotonic() + SCREEN_S, 0.0
    try:
        while process.poll() is None and (now_s := time.monotonic()) < deadline_s:
            if select.select([own], [], [], 0.2)[0]:
                seen += os.read(own, 1 << 16)
            # A replay never rests: the key comes once panels are drawn, and again if it was lost.
            if b"latency" in seen and now_s - pressed_s > 1:
                os.write(own, b"q")
                pressed_s = now_s
        return process.wait(5)
    except OSError:
        # On Linux, reading fails once the other side is closed.
        return process.wait(5)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(own)
