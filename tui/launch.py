"""The dashboard's process: the environment is set before any import that reads it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mlxdeck.tui.state.beside import Beside
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

ENVIRON = {"NUMPY_MADVISE_HUGEPAGE": "0"}
"""numpy reads this when it is imported, also in the helpers.

All columns grow at about the same number of requests. Zeroing a page of 2 MB for each would then
delay a key by 50 to 100 ms.
"""


def prepare_process() -> None:
    """Set what is not set yet of `ENVIRON`. Nothing that loads numpy may be imported before."""
    for name, value in ENVIRON.items():
        os.environ.setdefault(name, value)


def show(
    settings: DashboardSettings,
    paths: Sequence[Path],
    *,
    replay: bool = False,
    speed: float = 1.0,
    whole_folders: bool = False,
    beside: Beside = Beside(),  # noqa: B008 - it is frozen
) -> int:
    """Run the dashboard on files and folders until the user leaves it; return the exit status.

    `whole_folders` says that not only the newest stream of a folder is read.
    """
    prepare_process()
    from mlxdeck.telemetry.alerts.deliveries import deliveries
    from mlxdeck.tui.app import Dashboard, run

    shown = Dashboard(
        paths,
        replay=replay,
        speed=speed,
        limits=settings.thresholds,
        ways=deliveries(settings.alert_exec, settings.alert_url),
        memory=settings.home / "dashboard.json",
        whole_folders=whole_folders,
        beside=beside,
    )
    return run(shown)
