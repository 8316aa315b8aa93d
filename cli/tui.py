"""The dashboard on a live stream. It needs no server, only the files that one writes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlxdeck.server.settings import add_flags, from_args

EXAMPLE = "mlxdeck tui ~/.local/state/mlxdeck/telemetry"


def add(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files or folders")
    add_flags(parser, only=("telemetry_dir",))


def run(args: Namespace) -> int:
    from mlxdeck.tui.app import run as show

    return show(args.paths or [from_args(args).telemetry_folder])
