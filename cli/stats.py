"""Print the figures of a period, for scripts."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from mlxdeck.cli.recordings import add_places, add_since, period_of, places
from mlxdeck.settings.errors import UserError

EXAMPLE = "mlxdeck stats --json --since 1h --watch"
INTERVAL_S = 5.0


def add(parser: ArgumentParser) -> None:
    add_places(parser)
    add_since(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_interval,
        const=INTERVAL_S,
        metavar="SECONDS",
        help=f"print them again and again; default: every {INTERVAL_S:.0f} seconds",
    )


def run(args: Namespace) -> int:
    from mlxdeck.telemetry.analyze.report import figures
    from mlxdeck.telemetry.analyze.report_json import as_json, with_server
    from mlxdeck.telemetry.analyze.report_text import figure_lines
    from mlxdeck.telemetry.control_characters import shown_json
    from mlxdeck.telemetry.read.streams import GrowingStreams, NoStream

    try:
        streams = GrowingStreams(places(args))
        while True:
            store = streams.read()
            made = figures(store, period_of(args, store))
            if args.json:
                print(shown_json(with_server(as_json(made), store)), flush=True)
            else:
                print("\n".join(figure_lines(made)), flush=True)
            if args.watch is None:
                return 0
            time.sleep(args.watch)
    except NoStream as error:
        raise UserError(str(error)) from error


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise ArgumentTypeError("expected seconds, from 0.1 to 86400")
    return seconds
