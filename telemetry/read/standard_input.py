"""Standard input as data, while the keyboard is read from the terminal itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAME = "standard input"
_NAMES = {"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}
_TERMINAL = "/dev/tty"
_moved: list[int] = []
"""Where its data comes from since the keyboard has its place."""


def is_meant(path: Path) -> bool:
    """Whether a path stands for it."""
    return str(path) in _NAMES


def fd() -> int:
    """Where to read it."""
    return _moved[0] if _moved else 0


def is_terminal() -> bool:
    """Whether nothing was piped into it."""
    return os.isatty(fd())


def give_keyboard_its_place() -> None:
    """Read data from elsewhere from now on: what reads keys reads them from standard input.

    Raises:
        OSError: There is no terminal.
    """
    if _moved:
        return
    terminal = os.open(_TERMINAL, os.O_RDWR)
    _moved.append(os.dup(0))
    os.dup2(terminal, 0)
    os.close(terminal)
    if not sys.stdin.isatty():
        raise OSError("no terminal")
