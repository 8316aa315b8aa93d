"""Runs an agent in this terminal, as if the user had started it: signals, exit status."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from mlxdeck.settings.errors import UserError

INSTALL = {
    "claude": "npm install -g @anthropic-ai/claude-code",
    "codex": "npm install -g @openai/codex",
    "opencode": "npm install -g opencode-ai",
}
"""How agents that people run are installed, by the name of the program."""


class AgentMissing(UserError):
    """The agent's program was not found."""


def run_agent(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run an agent until it ends; return its exit status, 128 and the number for a signal.

    For the main thread.

    Raises:
        AgentMissing: There is no such program.
    """
    with _signals_passed_on() as passed_on:
        try:
            process = subprocess.Popen(command, env=environ)
        except (FileNotFoundError, PermissionError) as error:
            install = INSTALL.get(command[0])
            remedy = f"; install it with: {install}" if install else ""
            raise AgentMissing(f"cannot run {command[0]}: {error.strerror}{remedy}") from None
        passed_on.append(process)
        status = process.wait()
    return status if status >= 0 else 128 - status


@contextmanager
def _signals_passed_on() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Pass the signals that end programs on to the processes that the caller adds.

    A terminal sends Ctrl+C to the agent, too. The agent decides what it means.
    """
    processes: list[subprocess.Popen[bytes]] = []
    is_terminal = sys.stdin is not None and sys.stdin.isatty()

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and is_terminal:
            return
        for process in processes:
            process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield processes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
