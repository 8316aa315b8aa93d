"""Print one request in full. The output is text, JSON or a curl command."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from mlxdeck.cli.places import place
from mlxdeck.cli.recordings import add_filter, filter_of, streams
from mlxdeck.cli.settings import refuse_idle
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.flags import add_flags
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

if TYPE_CHECKING:
    from mlxdeck.telemetry.query.filters import Filter
    from mlxdeck.telemetry.store.store import Store

EXAMPLE = "mlxdeck inspect tests/data/recording.jsonl --json"


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "path",
        nargs="?",
        type=place,
        metavar="PATH",
        help="a recording, or a folder of them; - is standard input; default: the server's own",
    )
    parser.add_argument(
        "request",
        nargs="?",
        default="",
        metavar="REQUEST",
        help="start of its id; default: the last request",
    )
    add_filter(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument("--curl", action="store_true", help="print a curl command that sends it again")
    add_flags(parser, DashboardSettings, only=("telemetry_dir",))


def run(args: Namespace) -> int:
    from mlxdeck.telemetry.analyze.request_detail import NotCaptured, curl, detail
    from mlxdeck.telemetry.control_characters import shown_json
    from mlxdeck.tui.outputs.inspect import show

    if args.request:
        refuse_idle(args, "with REQUEST", "where")
    args.paths = [args.path] if args.path else []
    recorded = streams(args)
    store = recorded.store
    where = filter_of(args, recorded, store.last_ts)
    told = detail(store, _row(store, args.request, where))
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


def _row(store: Store, begins: str, where: Filter | None) -> int:
    """The request whose id begins like this; of all, the last one that matches."""
    from mlxdeck.telemetry.analyze.selection import one_request

    if not begins:
        rows = store.by_start.rows
        rows = rows if where is None else rows[where.mask(store, store.last_ts)[rows]]
        if not len(rows):
            raise UserError("no request matches")
        return int(rows[-1])
    try:
        rows = one_request(store, begins)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not len(rows):
        raise UserError(f"no request {begins} is recorded there")
    return int(rows[0])
