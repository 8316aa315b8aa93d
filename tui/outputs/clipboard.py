"""Puts text on the clipboard: by the system's own program here, by the terminal elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess

from textual.app import App

_PROGRAMS = (["pbcopy"], ["wl-copy"], ["xclip", "-selection", "clipboard"])


def copy(app: App[None], text: str) -> str:
    """Copy, and say how. Over ssh only the terminal can (OSC 52); macOS's own one doesn't."""
    if "SSH_CONNECTION" not in os.environ:
        for program in _PROGRAMS:
            if shutil.which(program[0]) and _run(program, text):
                return program[0]
    app.copy_to_clipboard(text)
    return "the terminal"


def _run(program: list[str], text: str) -> bool:
    try:
        done = subprocess.run(program, input=text.encode(), timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
