"""Run an agent with a server, and show what the session cost. Starts a server if none runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mlxdeck.cli.session import add_session_flags, run_session

EXAMPLE = "mlxdeck run -- codex"


def add(parser: ArgumentParser) -> None:
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="the agent, its arguments")
    add_session_flags(parser)


def run(args: Namespace) -> int:
    return run_session(args, args.command)
