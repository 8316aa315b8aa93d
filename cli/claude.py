"""Run Claude Code with a server, and show what the session cost. Starts a server if none runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mlxdeck.cli.session import add_session_flags, run_session

EXAMPLE = "mlxdeck claude --model mlx-community/Qwen3-8B-4bit -- --continue"


def add(parser: ArgumentParser) -> None:
    parser.add_argument("arguments", nargs="*", metavar="-- ARGS", help="arguments of claude")
    add_session_flags(parser)


def run(args: Namespace) -> int:
    return run_session(args, ["claude", *args.arguments])
