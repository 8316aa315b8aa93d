"""Start the server with your session, by systemd or launchd. It gets the present settings."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from functools import partial

from mlxdeck.cli.settings import (
    add_server_flags,
    refuse_idle,
    refuse_settings,
    server_settings,
)

EXAMPLE = "mlxdeck service install --model mlx-community/Qwen3-8B-4bit"
ACTIONS = ("install", "uninstall", "status")
SERVE = (sys.executable, "-m", "mlxdeck.cli.main", "serve")


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=ACTIONS, metavar="ACTION", help="install, uninstall or status"
    )
    parser.add_argument(
        "--print", dest="prints", action="store_true", help="show what install would write"
    )
    add_server_flags(parser)


def run(args: Namespace) -> int:
    from mlxdeck.server.ops import user_service

    if args.action != "install":
        refuse_idle(args, f"with {args.action}", "prints")
    if args.action == "uninstall":
        refuse_settings(args, "with uninstall")
    settings = server_settings(args)
    if args.action == "uninstall":
        return user_service.uninstall(settings, print)
    if args.action == "status":
        return user_service.status(settings, SERVE, print)
    if args.prints:
        return user_service.preview(settings, SERVE, print, partial(print, file=sys.stderr))
    return user_service.install(settings, SERVE, print)
