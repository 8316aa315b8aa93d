"""Show the dashboard on a live stream. It needs no server, only its telemetry files."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from mlxdeck.cli.settings import add_dashboard_flags, dashboard_settings
from mlxdeck.server.lifecycle.interrupts import interrupts_raise
from mlxdeck.settings.declaration import declared
from mlxdeck.settings.sources import flag
from mlxdeck.tui.launch import show
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

EXAMPLE = "mlxdeck tui --alert-latency-p95-s 30"


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="telemetry files or folders"
    )
    parser.add_argument(
        "--serve",
        nargs="?",
        type=int,
        const=8090,
        metavar="PORT",
        help="show the dashboard in a browser, on this machine only; default port: 8090",
    )
    add_dashboard_flags(parser)


def run(args: Namespace) -> int:
    paths = args.paths or [dashboard_settings(args).telemetry_folder]
    if args.serve is None:
        return dashboard(args, paths)
    from mlxdeck.tui.outputs.browser import serve

    flags = [
        f"{flag(name)}={value}"
        for name in declared(DashboardSettings)
        if (value := getattr(args, name, None)) is not None
    ]
    own = [sys.executable, "-m", "mlxdeck.cli.main", "tui"]
    with interrupts_raise():
        return serve([*own, *map(str, paths), *flags], args.serve)


def dashboard(
    args: Namespace,
    paths: Sequence[Path],
    *,
    replay: bool = False,
    speed: float = 1.0,
    unrecorded: bool = False,
) -> int:
    """Run the dashboard with the user's settings."""
    settings = dashboard_settings(args)
    # The terminal has to be put back as it was.
    with interrupts_raise():
        return show(settings, paths, replay=replay, speed=speed, unrecorded=unrecorded)
