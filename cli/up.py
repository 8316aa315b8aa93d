"""Run the server in the background, and the dashboard here. Without a terminal, only the server.

A server that crashes, or whose model hangs, is started again. One that runs already is used as it
is: its own streams are shown, with a note where it differs from the settings.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlxdeck.cli.places import ServerUrl, mirrored
from mlxdeck.cli.settings import (
    add_all_flags,
    add_model,
    dashboard_settings,
    refuse_alerts,
    server_settings,
)
from mlxdeck.cli.tui import dashboard, follow_from_now
from mlxdeck.server.lifecycle.interrupts import quiet_interrupt
from mlxdeck.tui.launch import prepare_process
from mlxdeck.tui.state.beside import Beside

if TYPE_CHECKING:
    from mlxdeck.server.config.settings import Settings
    from mlxdeck.server.ops.agent_session import FoundServer

EXAMPLE = "mlxdeck up --model mlx-community/Qwen3-8B-4bit"


def add(parser: ArgumentParser) -> None:
    add_model(parser)
    add_all_flags(parser)


def run(args: Namespace) -> int:
    command = [sys.executable, "-m", "mlxdeck.cli.main", "serve"]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        refuse_alerts(
            args, "without a terminal there is no dashboard; mlxdeck stats --watch alerts"
        )
        from mlxdeck.server.ops.background import environ
        from mlxdeck.server.ops.supervision import run_supervised

        return run_supervised(command, environ(server_settings(args)), partial(print, flush=True))
    prepare_process()
    with quiet_interrupt():
        import mlxdeck.tui.app  # noqa: F401 - before there is a server that would have to be stopped
        from mlxdeck.server.ops.agent_session import count_running, endpoint, found_server

    settings = server_settings(args)
    # Its errors are shown before a server starts.
    dashboard_settings(args)
    began_ts = time.time()
    if found := found_server(settings):
        return _beside(args, settings, found)
    beside = Beside(
        unrecorded=not settings.telemetry, count_running=partial(count_running, settings)
    )
    with endpoint(settings, command, print):
        status = dashboard(args, [settings.telemetry_folder], beside=beside)
    _sum_up(settings.telemetry_folder if settings.telemetry else None, settings.port, began_ts)
    return status


def _beside(args: Namespace, settings: Settings, found: FoundServer) -> int:
    """Show the streams of a server that runs already, wherever it records; it is left running."""
    notes = [f"The server on {settings.url}: {each}" for each in found.differences]
    print("\n".join([f"using the server that runs on {settings.url}", *notes]))
    began_ts, recording = time.time(), found.recording
    if recording is not None and not os.access(recording, os.R_OK):
        # In a container, or of another user.
        with mirrored(args, [ServerUrl(settings.url)]) as (paths, mirrors):
            follow_from_now(mirrors)
            return dashboard(args, paths, beside=Beside(mirrors=mirrors, notes=notes))
    from mlxdeck.telemetry.analyze.session_summary import told_port

    folder = recording.parent if recording else settings.telemetry_folder
    beside = Beside(unrecorded=recording is None, notes=notes)
    # A container may know its port by another number.
    port = told_port(recording) if recording else settings.port
    status = dashboard(args, [folder], beside=beside)
    _sum_up(folder if recording else None, port, began_ts)
    return status


def _sum_up(folder: Path | None, port: int, began_ts: float) -> None:
    from mlxdeck.telemetry.analyze.session_summary import summary_of

    if folder is None:
        print("telemetry is off, so there is no summary")
    else:
        print("\n".join(summary_of(folder, began_ts, time.time(), port)))
