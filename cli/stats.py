"""Print the figures of a period, for scripts. With --watch, alerts are sent as they come."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, NoReturn

from mlxdeck.cli.recordings import (
    add_filter,
    add_places,
    add_since,
    filter_of,
    period_of,
    places,
    streams,
)
from mlxdeck.cli.settings import ALERTS, dashboard_settings, refuse_alerts
from mlxdeck.settings.errors import UserError

if TYPE_CHECKING:
    from mlxdeck.telemetry.analyze.report import Period
    from mlxdeck.telemetry.read.streams import GrowingStreams

EXAMPLE = "mlxdeck stats --json --since 1h --watch"
INTERVAL_S = 5.0


def add(parser: ArgumentParser) -> None:
    add_places(parser, ALERTS)
    add_since(parser)
    add_filter(parser)
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
    from mlxdeck.telemetry.read.places import NoStream
    from mlxdeck.telemetry.read.streams import GrowingStreams

    if args.watch is None:
        refuse_alerts(args, "alerts need --watch")
        _print(args, streams(args, may_be_empty=True))
        return 0
    try:
        _watch(args, GrowingStreams(places(args)))
    except NoStream as error:
        raise UserError(str(error)) from error


def _watch(args: Namespace, streams: GrowingStreams) -> NoReturn:
    """Print figures and alerts until the user interrupts."""
    from mlxdeck.telemetry.alerts.deliveries import deliveries
    from mlxdeck.telemetry.alerts.hooks import AlertHooks
    from mlxdeck.telemetry.alerts.stream_alarm import StreamAlarm
    from mlxdeck.telemetry.control_characters import shown

    settings = dashboard_settings(args)
    ways = deliveries(settings.alert_exec, settings.alert_url)
    hooks = AlertHooks(ways, _note) if ways else None
    alarm = StreamAlarm(settings.thresholds, hooks)
    try:
        while True:
            store = streams.read(wait=False)
            for alert in alarm.look(store, _print(args, streams)):
                _note(f"{alert.title}: {shown(alert.text)}")
            time.sleep(args.watch)
    finally:
        if hooks:
            hooks.close()
            if hooks.losses:
                _note(hooks.losses)


def _print(args: Namespace, recorded: GrowingStreams) -> Period:
    from mlxdeck.telemetry.analyze.report import figures
    from mlxdeck.telemetry.analyze.report_json import as_json, with_server
    from mlxdeck.telemetry.analyze.report_text import figure_lines
    from mlxdeck.telemetry.control_characters import shown_json

    store = recorded.store
    period = period_of(args, store)
    made = figures(store, period, where=filter_of(args, recorded, period.until_ts))
    if args.json:
        print(shown_json(with_server(as_json(made), store)), flush=True)
    else:
        print("\n".join(figure_lines(made)), flush=True)
    return period


def _note(text: str) -> None:
    print(f"mlxdeck: {text}", file=sys.stderr, flush=True)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise ArgumentTypeError("expected seconds, from 0.1 to 86400")
    return seconds
