"""The device of MLX on this machine, for `mlxdeck doctor`, found without loading a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas


@dataclass(frozen=True, slots=True)
class Device:
    """The device that MLX has chosen."""

    kind: str
    """`metal` or `cpu`."""
    name: str
    mlx_version: str
    model_bytes: int
    """Memory limit of a model and its states: MLX's limit on Metal, else the free memory."""
    memory_bytes: int


def device() -> Device:
    """Ask MLX, after the fast BLAS is in the process.

    Raises:
        ImportError: MLX is not installed, or its library can't be loaded.
    """
    load_fast_blas()
    import mlx.core as mx

    info = mx.device_info()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(
        kind="metal" if mx.default_device() == mx.Device(mx.gpu) else "cpu",
        name=str(info.get("device_name", "unknown")),
        mlx_version=version("mlx"),
        model_bytes=int(info.get("max_recommended_working_set_size", 0)) or free_bytes() or total,
        memory_bytes=total,
    )


def free_bytes() -> int:
    """Memory that is free or can be freed at once; 0 where the system doesn't say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(next(found, "0")) * 1024
