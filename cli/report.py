"""Report what requests cost, and what would have helped."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mlxdeck.cli.recordings import (
    add_filter,
    add_places,
    add_since,
    filter_of,
    period_of,
    streams,
    streams_of,
)
from mlxdeck.settings.errors import UserError

if TYPE_CHECKING:
    from mlxdeck.telemetry.analyze.comparison import Comparison
    from mlxdeck.telemetry.analyze.report import Period
    from mlxdeck.telemetry.store.store import Store

EXAMPLE = "mlxdeck report --since 7d"


def add(parser: ArgumentParser) -> None:
    add_places(parser)
    add_since(parser)
    add_filter(parser)
    parser.add_argument(
        "--session", default="", metavar="ID", help="only this session; the start of its id"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON document")
    how.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts")
    parser.add_argument(
        "--against",
        default="",
        metavar="FILE|PERIOD",
        help="compare with a file or folder, the time before (7d), or dates (A..B)",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="number sessions, agents, tools, models and requests instead of naming them",
    )
    parser.add_argument(
        "--price",
        type=_prices,
        metavar="PRICE",
        help="price the tokens: a model's name, or INPUT,CACHED,OUTPUT in dollars a million",
    )


def run(args: Namespace) -> int:
    from mlxdeck.telemetry.analyze.comparison_text import comparison_lines
    from mlxdeck.telemetry.analyze.report import report, rows_of
    from mlxdeck.telemetry.analyze.report_json import as_json
    from mlxdeck.telemetry.analyze.report_series import series
    from mlxdeck.telemetry.analyze.report_text import report_lines
    from mlxdeck.telemetry.analyze.shown_names import ShownNames
    from mlxdeck.telemetry.control_characters import shown_json
    from mlxdeck.telemetry.export.html_report import html_page

    recorded = streams(args)
    store = recorded.store
    period = period_of(args, store)
    where = filter_of(args, recorded, period.until_ts)
    names = ShownNames(anonymous=args.share)
    made = report(store, period, session=args.session, where=where, prices=args.price, names=names)
    against = _against(args, store, period)
    if args.json:
        print(shown_json(as_json(made, against), indent=1))
    elif args.html:
        steps = series(store, rows_of(store, period, args.session, where), period)
        _write(args.html, html_page(made, steps, against))
    else:
        print("\n".join([*report_lines(made), *(comparison_lines(against) if against else ())]))
    return 0


def _against(args: Namespace, store: Store, period: Period) -> Comparison | None:
    from mlxdeck.telemetry.analyze.comparison import compare
    from mlxdeck.telemetry.analyze.periods import compared, everything

    if not args.against:
        return None
    if (path := Path(args.against)).exists():
        recorded = streams_of([path])
        other = recorded.store
        if args.where:
            args.where.again().search(other, recorded.files)
        before = (other, everything(other))
    else:
        try:
            before = (store, compared(args.against, period))
        except ValueError as error:
            raise UserError(f"--against: {error}") from error
    where = args.where.filter if args.where else None
    return compare(before, (store, period), args.session, where)


def _write(path: Path, page: str) -> None:
    from mlxdeck.telemetry.export.own_file import owner_only

    try:
        with open(path, "w", encoding="utf-8", opener=owner_only) as file:
            file.write(page)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from error
    print(path)


def _prices(text: str) -> object:
    from mlxdeck.telemetry.analyze.prices import prices_of

    try:
        return prices_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
