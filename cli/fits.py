"""Tell whether a model fits into memory, from headers alone."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from mlxdeck.cli.settings import server_settings

EXAMPLE = "mlxdeck fits mlx-community/Qwen3-30B-A3B-Instruct-2507-4bit"


def add(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a Hugging Face id, a folder, or a name")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: Namespace) -> int:
    from mlxdeck.server.ops.model_list import as_json, fit_of

    model, args.model = args.model, None
    fit = fit_of(server_settings(args), model)
    if args.json:
        print(json.dumps(as_json(fit), indent=1))
    else:
        window = f"window: {fit.window.tokens:,} tokens by {fit.window.source}"
        print(f"{fit.name}: {fit.verdict()}\n{window}\ntool calls: {fit.tool_format}")
    return 0 if fit.fits else 1
