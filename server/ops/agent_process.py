"""Runs an agent in this terminal, as if the user had started it: signals, exit status."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from mlxdeck.server.lifecycle.exit_status import ASKED
from mlxdeck.settings.errors import UserError

INSTALL = {
    "claude": "npm install -g @anthropic-ai/claude-code",
    "codex": "npm install -g @openai/codex",
    "opencode": "npm install -g opencode-ai",
}
"""How agents that people run are installed, by the name of the program."""


class AgentMissing(UserError):
    """The agent's program was not found, or can't be run."""


def check_program(program: str) -> None:
    """Refuse an agent that can't be run, before a model is loaded for it.

    Raises:
        AgentMissing: There is no such program.
    """
    if shutil.which(program) is not None:
        return
    if os.sep not in program:
        raise _missing(program, "it is not on PATH")
    raise _missing(program, os.strerror(errno.EACCES if Path(program).exists() else errno.ENOENT))


def run_agent(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run an agent until it ends; return its exit status, 128 and the number for a signal.

    For the main thread.

    Raises:
        AgentMissing: There is no such program, or the system can't run it.
    """
    with _PassedOn() as signals:
        try:
            process = subprocess.Popen(command, env=environ)
        except OSError as error:
            raise _missing(command[0], str(error.strerror)) from None
        signals.pass_on_to(process)
        status = process.wait()
    return status if status >= 0 else 128 - status


def _missing(program: str, why: str) -> AgentMissing:
    install = INSTALL.get(program)
    remedy = f"; install it with: {install}" if install else ""
    return AgentMissing(f"cannot run {program or repr(program)}: {why}{remedy}")


class _PassedOn:
    """Passes the signals that end programs on to a process, also those that come before it.

    A terminal sends Ctrl+C to the agent, too. The agent decides what it means.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._is_terminal = sys.stdin is not None and sys.stdin.isatty()

    def __enter__(self) -> _PassedOn:
        # Who was started with nohup stays when its terminal closes.
        numbers = [each for each in ASKED if signal.getsignal(each) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pass_on_to(self, process: subprocess.Popen[bytes]) -> None:
        """Pass signals on to a process, beginning with those that came meanwhile."""
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._is_terminal:
            return
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)
