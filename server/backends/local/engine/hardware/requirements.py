"""What MLX needs of a machine, and what this one lacks."""

from __future__ import annotations

import platform

MIN_MACOS = (14, 0)
MIN_GLIBC = (2, 35)
"""Of the wheels of MLX."""
NEEDED = "macOS 14 or later on Apple silicon, or Linux with glibc 2.35 or later"


def lacking(
    system: str | None = None,
    machine: str | None = None,
    *,
    macos: str | None = None,
    libc: tuple[str, str] | None = None,
) -> str:
    """Why MLX can't run here, as far as the system's names and versions tell; empty if it can.

    What isn't given is this machine's.
    """
    system, machine = system or platform.system(), machine or platform.machine()
    if system == "Darwin":
        version = platform.mac_ver()[0] if macos is None else macos
        if machine != "arm64":
            return "MLX needs Apple silicon, and a Python that is built for it"
        return "" if _at_least(version, MIN_MACOS) else f"macOS {version} is older than macOS 14"
    if system == "Linux":
        name, version = platform.libc_ver() if libc is None else libc
        if name != "glibc":
            return "MLX needs a Linux with glibc; its wheels don't run with another C library"
        return "" if _at_least(version, MIN_GLIBC) else f"glibc {version} is older than glibc 2.35"
    return f"MLX doesn't run on {system}"


def cannot_load(error: ImportError) -> str:
    """What to tell a user whose MLX can't be imported."""
    reason = lacking() or f"{error}. Install it again: pip install --force-reinstall mlx mlx-lm"
    return f"MLX can't be loaded: {reason}. mlxdeck needs {NEEDED}; mlxdeck doctor checks it"


def _at_least(version: str, least: tuple[int, int]) -> bool:
    parts = [int(part) if part.isdigit() else 0 for part in version.split(".")[:2]]
    return tuple([*parts, 0, 0][:2]) >= least
