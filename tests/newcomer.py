"""The commands of README and docs/, as a newcomer would type them; and why some are not run.

A command is a line of an indented block that begins with a program. Pure values, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

PROGRAMS = ("mlxdeck", "make", "curl", "uv", "eval", "export", "claude", "mkdir")
"""First words of a block of commands; other blocks are settings or code."""
_BLOCK = re.compile(r"(?m)(?<=\n\n)(?: {4}.*\n?)+")
_COMMENT = re.compile(r"\s{2,}#\s.*$")

SCREENS = (
    *("mlxdeck tui", "mlxdeck tui FILE FOLDER", "mlxdeck replay FILE"),
    *("mlxdeck tui ~/.claude", "mlxdeck tui http://HOST:PORT"),
)
"""They are run in a terminal, and left with a key."""

NOT_RUN = {
    "make *": "makes an environment of its own, of 2 GB",
    "uv tool install .": "tests/e2e/test_install.py runs it",
    "*mlx-community/Qwen3-30B*": "needs a Mac and 17 GB",
    "mlxdeck service install*": "changes what starts with the user's session",
    "mlxdeck service uninstall": "the same",
    "mlxdeck service status": "ends with 1 where none is installed",
    "mlxdeck serve": "runs until it is stopped; the other commands here ask one that runs",
    "mlxdeck bench*": "takes minutes; tests/server/bench/ runs it",
    "mlxdeck serve --upstream lmstudio": "needs LM Studio",
    "mlxdeck serve --shared-cache *": "needs that Redis",
    "mlxdeck run -- codex": "needs a terminal; tests/e2e/test_codex.py runs it",
    "mlxdeck run -- opencode": "needs a terminal; tests/e2e/test_coding_agents.py runs it",
    "mlxdeck claude -- --continue": "needs a terminal",
    "mlxdeck claude --dashboard --alert-error-rate 0.1": "needs a terminal",
    "claude": "needs a terminal",
    "mlxdeck tui --serve": "runs until it is stopped; tests/tui/ runs it",
    "mlxdeck up --alert*": "runs until it is stopped; tests/tui/ runs up",
    "ssh *": "needs another machine; tests/cli/ runs the pipe",
    "mlxdeck tui --alert*": "runs until it is stopped; tests/telemetry/ runs alerts",
    "mlxdeck stats *--watch*": "the same",
    "mlxdeck rm cache": "asks for consent, and not while a server runs",
}
"""Patterns of commands, each with the reason."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page."""

    page: str
    text: str

    @property
    def reason(self) -> str:
        """Why it is not run; empty if it is."""
        reasons = (why for pattern, why in NOT_RUN.items() if fnmatch(self.text, pattern))
        return next(reasons, "")


def commands(page: str, text: str) -> Iterator[Command]:
    """Every command of a page's text, without its comment; continued lines are one."""
    for block in _BLOCK.findall(text):
        if block.split(maxsplit=1)[0] not in PROGRAMS:
            continue
        joined = re.sub(r"\\\n\s*", "", block)
        for line in joined.splitlines():
            if command := _COMMENT.sub("", line).strip():
                yield Command(page, command)


def filled(command: str, words: dict[str, str]) -> str:
    """A command with values in place of words such as FILE; optional ones are left out."""
    command = re.sub(r"\s*\[[A-Z]+\]", "", command)
    return re.sub(r"\b[A-Z]{2,}\b(?!_)", lambda found: words.get(found[0], found[0]), command)
