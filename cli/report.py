"""Report what requests cost, and what would have helped."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from mlxdeck.cli.recordings import add_places, ended_ts, streams
from mlxdeck.settings.errors import UserError

EXAMPLE = "mlxdeck report --since 7d"


def add(parser: ArgumentParser) -> None:
    add_places(parser)
    parser.add_argument(
        "--since",
        default="",
        metavar="PERIOD",
        help="how far back, such as 12h or 7d, or a date; from now, or from a recording's end",
    )
    parser.add_argument(
        "--session", default="", metavar="ID", help="only this session; the start of its id"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--share",
        action="store_true",
        help="number sessions, agents, tools, models and files instead of naming them",
    )
    parser.add_argument(
        "--price",
        type=_prices,
        metavar="PRICE",
        help="price the tokens: a model's name, or INPUT,CACHED,OUTPUT in dollars a million",
    )


def run(args: Namespace) -> int:
    from mlxdeck.telemetry.analyze.periods import period
    from mlxdeck.telemetry.analyze.report import as_json, report
    from mlxdeck.telemetry.analyze.report_text import report_lines
    from mlxdeck.telemetry.analyze.shown_names import ShownNames
    from mlxdeck.telemetry.control_characters import shown_json

    found = streams(args)
    try:
        span = period(found.store, args.since, ended_ts(args))
    except ValueError as error:
        raise UserError(f"--since: {error}") from error
    names = ShownNames(anonymous=args.share)
    made = report(found.store, span, session=args.session, prices=args.price, names=names)
    print(shown_json(as_json(made), indent=1) if args.json else "\n".join(report_lines(made)))
    return 0


def _prices(text: str) -> object:
    from mlxdeck.telemetry.analyze.prices import prices_of

    try:
        return prices_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
