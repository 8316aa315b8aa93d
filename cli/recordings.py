"""Recordings that a command reads: files, folders, or the server's own folder."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlxdeck.cli.places import place
from mlxdeck.cli.settings import dashboard_settings, refuse_idle
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.flags import add_flags
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

if TYPE_CHECKING:
    from mlxdeck.telemetry.analyze.report import Period
    from mlxdeck.telemetry.query.filters import Filter
    from mlxdeck.telemetry.read.streams import GrowingStreams
    from mlxdeck.telemetry.store.store import Store


def add_places(parser: ArgumentParser, more: Collection[str] = ()) -> None:
    """Files and folders, and where the server's own one is; with more of the settings."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=place,
        metavar="PATH",
        help="recordings, or folders of them; - is standard input; default: the server's own",
    )
    add_flags(parser, DashboardSettings, only=("telemetry_dir", *more))


def add_since(parser: ArgumentParser) -> None:
    """The period that counts."""
    parser.add_argument(
        "--since",
        default="",
        metavar="PERIOD",
        help="how far back, such as 12h or 7d, or a date; from now, or from a recording's end",
    )


def add_filter(parser: ArgumentParser) -> None:
    """Which requests count."""
    parser.add_argument(
        *("--filter", "--where"),
        dest="where",
        default="",
        metavar="FILTER",
        help="only these, as the dashboard filters them, such as 'tool:Read latency>2s'",
    )


def filter_of(args: Namespace, recorded: GrowingStreams, until_ts: float) -> Filter | None:
    """The filter, once content is searched for its texts; a value that none has is told.

    Raises:
        UserError: It can't be understood.
    """
    from mlxdeck.telemetry.analyze.selection import Selection
    from mlxdeck.telemetry.query.hints import Hints

    if not args.where:
        return None
    if isinstance(args.where, str):
        try:
            args.where = Selection(args.where)
        except ValueError as error:
            raise UserError(f"--filter: {error}") from error
    args.where.search(recorded.store, recorded.files)
    wanted: Filter = args.where.filter
    if told := Hints(recorded.store, wanted).at(until_ts):
        print(f"mlxdeck: {told}", file=sys.stderr)
    return wanted


def places(args: Namespace) -> list[Path]:
    """What was named, or the server's own folder.

    Raises:
        UserError: That is not there.
    """
    if args.paths:
        refuse_idle(args, "with PATH", "telemetry_dir")
        return list(args.paths)
    folder = dashboard_settings(args).telemetry_folder
    if not folder.exists():
        raise UserError(f"nothing is recorded in {folder} yet: mlxdeck serve starts a server")
    return [folder]


def streams(args: Namespace, *, may_be_empty: bool = False) -> GrowingStreams:
    """What all of them hold by now.

    Raises:
        UserError: A file is no stream, or there is no request.
    """
    return streams_of(places(args), may_be_empty=may_be_empty)


def streams_of(paths: Sequence[Path], *, may_be_empty: bool = False) -> GrowingStreams:
    """What recordings hold by now, read to the end of pipes; raises as `streams`."""
    from mlxdeck.telemetry.analyze.sentences import counted
    from mlxdeck.telemetry.read.places import NoStream
    from mlxdeck.telemetry.read.streams import GrowingStreams

    try:
        streams = GrowingStreams(paths)
        found = streams.read()
    except NoStream as error:
        raise UserError(str(error)) from error
    streams.close()
    notes = list(streams.notes)
    if not found.n and not may_be_empty:
        raise UserError("; ".join([f"no requests are recorded in {_named(paths)}", *notes]))
    for what, n in (("not readable", streams.n_bad), ("not written", found.dropped.until())):
        if n:
            notes.append(f"{counted(n, 'line')} {what}: figures may lack requests")
    if n_mixed := len(found.shared_ids.mixed):
        notes.append(f"{counted(n_mixed, 'id')} of several requests each, counted as one")
    for note in notes:
        print(f"mlxdeck: {note}", file=sys.stderr)
    return streams


def _named(paths: Sequence[Path]) -> str:
    from mlxdeck.telemetry.read import standard_input

    names = (standard_input.NAME if standard_input.is_meant(path) else path for path in paths)
    return ", ".join(map(str, names))


def period_of(args: Namespace, store: Store) -> Period:
    """What `--since` means: back from now, or of named recordings from their last line.

    Raises:
        UserError: It means nothing.
    """
    from mlxdeck.telemetry.analyze.periods import period

    try:
        return period(store, args.since, None if args.paths else time.time())
    except ValueError as error:
        raise UserError(f"--since: {error}") from error
