"""Show the commands, or the help of one of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

EXAMPLE = "mlxdeck help serve"


def add(parser: ArgumentParser) -> None:
    parser.add_argument("of", nargs="?", metavar="COMMAND", help="default: list all commands")


def run(args: Namespace) -> int:
    from mlxdeck.cli.main import main

    return main([args.of, "--help"] if args.of else ["--help"])
