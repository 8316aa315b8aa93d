"""Show the dashboard on a live stream. It needs no server, only its telemetry files."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlxdeck.cli.places import ServerUrl, mirrored, place
from mlxdeck.cli.settings import add_dashboard_flags, dashboard_settings, refuse_idle
from mlxdeck.server.lifecycle.interrupts import interrupts_raise
from mlxdeck.settings.declaration import declared
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.sources import flag
from mlxdeck.telemetry.read import spool, standard_input
from mlxdeck.telemetry.read.places import NoStream, check_place
from mlxdeck.tui.launch import show
from mlxdeck.tui.state.beside import Beside
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

if TYPE_CHECKING:
    from mlxdeck.telemetry.mirror.mirror import Mirror

EXAMPLE = "mlxdeck tui --alert-latency-p95-s 30"


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        type=place,
        metavar="PATH",
        help="recordings, folders, - (standard input) or a server's URL; default: the newest here",
    )
    parser.add_argument(
        "--serve",
        nargs="?",
        type=_port,
        const=8090,
        metavar="PORT",
        help="show the dashboard in a browser, on this machine only; default port: 8090",
    )
    add_dashboard_flags(parser)


def run(args: Namespace) -> int:
    if args.paths:
        refuse_idle(args, "with PATH", "telemetry_dir")
    places: list[Path | ServerUrl] = args.paths or [dashboard_settings(args).telemetry_folder]
    if args.serve is None:
        with mirrored(args, places) as (paths, mirrors):
            follow_from_now(mirrors)
            return dashboard(args, paths, beside=Beside(mirrors=mirrors))
    named = [each for each in places if isinstance(each, Path)]
    if any(map(standard_input.is_meant, named)):
        raise UserError("--serve: standard input can't be shown to everyone who comes")
    check_places(named, may_come=True)
    from mlxdeck.tui.outputs.browser import serve

    flags = [
        f"{flag(name)}={value}"
        for name in (*declared(DashboardSettings), "config")
        if (value := getattr(args, name, None)) is not None
    ]
    own = [sys.executable, "-m", "mlxdeck.cli.main", "tui"]
    with interrupts_raise():
        return serve([*own, *map(str, places), *flags], args.serve)


def follow_from_now(mirrors: Sequence[Mirror]) -> None:
    """Copy what is new from now on, also of a server that comes later.

    Raises:
        UserError: One answers, but it would not help to ask it again.
    """
    from mlxdeck.telemetry.mirror.server_files import NotOurs, ServerFilesError

    for mirror in mirrors:
        try:
            mirror.step()
        except NotOurs as error:
            raise UserError(str(error)) from error
        except ServerFilesError as error:
            mirror.missed(str(error))
        mirror.start()


def _port(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ArgumentTypeError("expected a port, from 1 to 65535")
    return int(text)


def dashboard(
    args: Namespace,
    paths: Sequence[Path],
    *,
    replay: bool = False,
    speed: float = 1.0,
    beside: Beside = Beside(),  # noqa: B008 - it is frozen
) -> int:
    """Run the dashboard with the user's settings; all of a folder that they named is read."""
    settings = dashboard_settings(args)
    is_named = bool(getattr(args, "paths", ()))
    check_places(paths, may_come=not replay, is_named=is_named)
    if any(map(standard_input.is_meant, paths)):
        _give_keyboard_its_place()
    # The terminal has to be put back as it was.
    with interrupts_raise():
        try:
            return show(
                settings,
                paths,
                replay=replay,
                speed=speed,
                beside=beside,
                whole_folders=is_named,
            )
        finally:
            # A signal may end the process before Python's own end.
            spool.remove()


def check_places(paths: Sequence[Path], *, may_come: bool, is_named: bool = True) -> None:
    """Raises `UserError` if one can't be read; those that `may_come` need not be there."""
    for path in paths:
        try:
            check_place(path, may_come=may_come, is_named=is_named)
        except NoStream as error:
            raise UserError(str(error)) from error


def _give_keyboard_its_place() -> None:
    try:
        standard_input.give_keyboard_its_place()
    except OSError as error:
        raise UserError("the dashboard needs a terminal for its keys") from error
