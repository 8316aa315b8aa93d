"""The dashboard's process, before anything is imported that the environment tells what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mlxdeck.tui.state.dashboard_settings import DashboardSettings

ENVIRON = {"NUMPY_MADVISE_HUGEPAGE": "0"}
"""Read by numpy when it is imported, also by the helpers' one. To zero pages of 2 MB, one for each
column at about the same number of requests, holds up a key for 50 to 100 ms."""


def prepare_process() -> None:
    """Set what is not set yet of `ENVIRON`. Nothing that loads numpy may be imported before."""
    for name, value in ENVIRON.items():
        os.environ.setdefault(name, value)


def show(
    settings: DashboardSettings, paths: Sequence[Path], *, replay: bool = False, speed: float = 1.0
) -> int:
    """Run the dashboard on files and folders until the user leaves it; return the exit status."""
    prepare_process()
    from mlxdeck.tui.app import Dashboard, run
    from mlxdeck.tui.state.alerts import Thresholds

    limits = Thresholds(
        latency_p95_s=settings.alert_latency_p95_s,
        hit_rate=settings.alert_hit_rate,
        error_rate=settings.alert_error_rate,
        queue=settings.alert_queue,
        memory_bytes=settings.alert_memory_bytes,
    )
    memory = settings.home / "dashboard.json"
    return run(Dashboard(paths, replay=replay, speed=speed, limits=limits, memory=memory))
