"""Print one request in full. The output is text, JSON or a curl command."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlxdeck.cli.settings import dashboard_settings
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.flags import add_flags
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

EXAMPLE = "mlxdeck inspect tests/data/recording.jsonl --json"


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "path", nargs="?", type=Path, metavar="PATH", help="a telemetry file or folder"
    )
    parser.add_argument(
        "request",
        nargs="?",
        default="",
        metavar="REQUEST",
        help="start of its id; default: the last request",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument("--curl", action="store_true", help="print a curl command that sends it again")
    add_flags(parser, DashboardSettings, only=("telemetry_dir",))


def run(args: Namespace) -> int:
    from mlxdeck.telemetry.analyze.request_detail import NotCaptured, curl, detail
    from mlxdeck.telemetry.analyze.session_summary import read
    from mlxdeck.telemetry.control_characters import shown_json
    from mlxdeck.tui.outputs.inspect import show

    path = args.path or dashboard_settings(args).telemetry_folder
    if not args.path and not path.exists():
        raise UserError(f"nothing is recorded in {path} yet: mlxdeck serve starts a server")
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    store = read([path])
    begins = (args.request, f"req_{args.request}")
    found = next(filter(None, map(store.ids.starting_with, begins)), [])
    if not found:
        raise UserError(f"no request {args.request or ''} in {path}".replace("  ", " "))
    if args.request and len(found) > 1:
        raise UserError(f"{len(found)} request ids begin with {args.request}: give more of the id")
    told = detail(store, found[-1])
    if args.json:
        print(shown_json(told, indent=2))
    elif args.curl:
        try:
            print(curl(told))
        except NotCaptured as error:
            raise UserError(str(error)) from error
    else:
        show(told)
    return 0
