"""This machine, as far as it decides how fast a model is. Nothing here names a person or a host."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_ASK_TIMEOUT_S = 5.0


def machine() -> dict[str, Any]:
    """Chip, cores, memory and system."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    mac = platform.mac_ver()[0]
    return {
        "chip": _chip() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 1024**3),
        "system": f"macOS {mac}" if mac else f"{platform.system()} {platform.release()}",
    }


def _chip() -> str:
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            found = subprocess.run(
                command, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return found.stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "")
