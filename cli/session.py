"""A session of an agent: its server, the agent, and the summary. Shared by commands."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial

from mlxdeck.cli.settings import (
    ALERTS,
    add_all_flags,
    dashboard_settings,
    refuse_alerts,
    server_settings,
)
from mlxdeck.server.lifecycle.interrupts import quiet_interrupt
from mlxdeck.settings.sources import flag

say = partial(print, file=sys.stderr, flush=True)
"""Standard output is the agent's."""
SERVE = [sys.executable, "-m", "mlxdeck.cli.main", "serve"]
DASHBOARD = [sys.executable, "-m", "mlxdeck.cli.main", "tui"]


def add_session_flags(parser: ArgumentParser) -> None:
    """The server's flags, the dashboard's, and those of a session."""
    parser.add_argument(
        "--dashboard",
        action="store_true",
        help="open the dashboard in a tmux split; without tmux, show its command",
    )
    add_all_flags(parser)


def run_session(args: Namespace, command: Sequence[str]) -> int:
    """Run an agent beside a server; return its exit status."""
    with quiet_interrupt():
        from mlxdeck.server.ops.agent_process import check_program, run_agent
        from mlxdeck.server.ops.agent_session import endpoint, open_dashboard
        from mlxdeck.server.ops.agents import command_line, environment, narrow_window
        from mlxdeck.telemetry.analyze.session_summary import summary_of

    settings = server_settings(args)
    if args.dashboard:
        # Its errors are shown before a server starts.
        dashboard_settings(args)
    else:
        refuse_alerts(args, "only the dashboard alerts: add --dashboard")
    check_program(command[0])
    with endpoint(settings, SERVE, say) as server:
        if warning := narrow_window(server, command):
            say(f"mlxdeck: {warning}")
        if args.dashboard:
            given = {name: getattr(args, name) for name in ALERTS}
            given |= {"telemetry_dir": settings.telemetry_folder}
            given |= {"config": os.path.abspath(args.config) if args.config else None}
            told = [f"{flag(name)}={value}" for name, value in given.items() if value is not None]
            open_dashboard([*DASHBOARD, *told], say)
        began_ts = time.time()
        own = environment(server, command, os.environ)
        status = run_agent(command_line(server, command), own)
        ended_ts = time.time()
    if server.is_recorded:
        told = summary_of(settings.telemetry_folder, began_ts, ended_ts, settings.port)
        say("\n".join(["", *told]))
    else:
        say("telemetry is off, so there is no summary")
    return status
