"""List the models of this machine: sizes, windows, tools, memory."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from mlxdeck.cli.settings import server_settings

EXAMPLE = "mlxdeck models"


def add(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: Namespace) -> int:
    from mlxdeck.server.ops.model_list import described, table

    models = described(server_settings(args))
    print(json.dumps(models, indent=1) if args.json else "\n".join(table(models)))
    return 0
