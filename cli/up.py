"""Run the server in the background, and the dashboard here. Without a terminal, only the server.

A server that crashes, or whose model hangs, is started again. One that runs already is used if it
has the wanted model and records in the folder that the dashboard shows.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from functools import partial

from mlxdeck.cli.settings import add_all_flags, add_model, dashboard_settings, server_settings
from mlxdeck.cli.tui import dashboard
from mlxdeck.server.lifecycle.interrupts import quiet_interrupt
from mlxdeck.tui.launch import prepare_process

EXAMPLE = "mlxdeck up --model mlx-community/Qwen3-8B-4bit"


def add(parser: ArgumentParser) -> None:
    add_model(parser)
    add_all_flags(parser)


def run(args: Namespace) -> int:
    command = [sys.executable, "-m", "mlxdeck.cli.main", "serve"]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        from mlxdeck.server.ops.background import environ
        from mlxdeck.server.ops.supervision import run_supervised

        return run_supervised(command, environ(server_settings(args)), partial(print, flush=True))
    prepare_process()
    with quiet_interrupt():
        import mlxdeck.tui.app  # noqa: F401 - before there is a server that would have to be stopped
        from mlxdeck.server.ops.agent_session import endpoint
        from mlxdeck.telemetry.analyze.session_summary import summary_of

    settings = server_settings(args)
    # Its errors are shown before a server starts.
    dashboard_settings(args)
    with endpoint(settings, command, print):
        began_ts = time.time()
        folder, unrecorded = settings.telemetry_folder, not settings.telemetry
        status = dashboard(args, [folder], unrecorded=unrecorded)
    if unrecorded:
        print("telemetry is off, so there is no summary")
    else:
        print("\n".join(summary_of(folder, began_ts, time.time())))
    return status
