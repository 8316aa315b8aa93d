"""Check this machine and the model. For each problem, show how to fix it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mlxdeck.cli.settings import add_model, add_server_flags, server_settings

EXAMPLE = "mlxdeck doctor --model mlx-community/Qwen3-8B-4bit"


def add(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_server_flags(parser)


def run(args: Namespace) -> int:
    from mlxdeck.server.ops.doctor import report

    return report(server_settings(args), print, as_json=args.json)
