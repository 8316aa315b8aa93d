"""Recordings that a command reads: files, folders, or the server's own folder."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mlxdeck.cli.settings import dashboard_settings
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.flags import add_flags
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

if TYPE_CHECKING:
    from mlxdeck.telemetry.read.streams import Streams


def add_places(parser: ArgumentParser) -> None:
    """Files and folders, and where the server's own one is."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="telemetry files, or folders with all their streams; default: the server's own",
    )
    add_flags(parser, DashboardSettings, only=("telemetry_dir",))


def streams(args: Namespace) -> Streams:
    """What they hold by now.

    Raises:
        UserError: There is none, or a file is no stream.
    """
    from mlxdeck.telemetry.read.streams import NoStream, read_streams

    places = args.paths or [dashboard_settings(args).telemetry_folder]
    if not args.paths and not places[0].exists():
        raise UserError(f"nothing is recorded in {places[0]} yet: mlxdeck serve starts a server")
    try:
        found = read_streams(places)
    except NoStream as error:
        raise UserError(str(error)) from error
    if not found.store.n:
        raise UserError(f"no requests are recorded in {', '.join(map(str, places))}")
    return found


def ended_ts(args: Namespace) -> float | None:
    """Now for the server's own streams; None for recordings, which end with their last line."""
    return None if args.paths else time.time()
