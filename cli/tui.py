"""Show the dashboard on a live stream. It needs no server, only its telemetry files."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from mlxdeck.server.config.settings import add_flags, from_args
from mlxdeck.server.stop_signals import interrupts_raise
from mlxdeck.tui.launch import prepare_process

EXAMPLE = "mlxdeck tui ~/.local/state/mlxdeck/telemetry"
FLAGS = (
    "telemetry_dir",
    *("alert_latency_p95_s", "alert_hit_rate", "alert_error_rate", "alert_queue"),
    "alert_memory_bytes",
)


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
    add_flags(parser, only=FLAGS)


def run(args: Namespace) -> int:
    paths = args.paths or [from_args(args).telemetry_folder]
    if args.serve is None:
        return dashboard(args, paths)
    from mlxdeck.tui.outputs.browser import serve

    flags = [
        f"--{name.replace('_', '-')}={value}"
        for name in FLAGS
        if (value := getattr(args, name, None)) is not None
    ]
    own = [sys.executable, "-m", "mlxdeck.cli.main", "tui"]
    with interrupts_raise():
        return serve([*own, *map(str, paths), *flags], args.serve)


def dashboard(
    args: Namespace, paths: Sequence[Path], *, replay: bool = False, speed: float = 1.0
) -> int:
    """Run the dashboard with the user's settings."""
    prepare_process()
    from mlxdeck.tui.app import Dashboard
    from mlxdeck.tui.app import run as show
    from mlxdeck.tui.state.alerts import Thresholds

    settings = from_args(args)
    shown = Dashboard(
        paths,
        replay=replay,
        speed=speed,
        limits=Thresholds(
            latency_p95_s=settings.alert_latency_p95_s,
            hit_rate=settings.alert_hit_rate,
            error_rate=settings.alert_error_rate,
            queue=settings.alert_queue,
            memory_bytes=settings.alert_memory_bytes,
        ),
        memory=settings.home / "dashboard.json",
    )
    # The terminal has to be put back as it was.
    with interrupts_raise():
        return show(shown)
