"""Fetch a model, so that a server starts at once. An interrupted download continues."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from mlxdeck.cli.settings import server_settings

EXAMPLE = "mlxdeck pull mlx-community/Qwen3-8B-4bit"


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a Hugging Face id, smollm2, or a .gguf file to convert"
    )


def run(args: Namespace) -> int:
    from mlxdeck.server.ops.model_list import pull

    model, args.model = args.model, None
    found = pull(server_settings(args), model, partial(print, flush=True))
    print(f"{found.name} is in {found.path}")
    return 0
