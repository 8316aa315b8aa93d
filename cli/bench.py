"""Measure this machine with a model, and print figures to share. It takes five minutes.

It starts a server of its own, which neither uses nor changes your caches, and stops it at the end.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from functools import partial

from mlxdeck.cli.settings import (
    add_model,
    add_server_flags,
    refuse_idle,
    refuse_settings,
    server_settings,
)
from mlxdeck.server.lifecycle.interrupts import quiet_interrupt

EXAMPLE = "mlxdeck bench --model mlx-community/Qwen3-8B-4bit"
SERVE = [sys.executable, "-m", "mlxdeck.cli.main", "serve"]


def add(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--quick", action="store_true", help="take one minute, with less precision")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    parser.add_argument(
        *("--only",), metavar="NAME,...", default="",
        help="measure these alone: prompts, repeat, clients, rewrite, held, restart",
    )  # fmt: skip
    parser.add_argument(
        "--url", default="", help="measure the server that runs there, and start none"
    )
    parser.add_argument(
        *("--against",), metavar="URL", action="append", default=[],
        help="measure another server beside it, with Anthropic's or OpenAI's API; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--against-model", metavar="NAME", default="", help="model to ask for there"
    )
    parser.add_argument(
        "--against-api", metavar="auto|anthropic|openai", default="", help="API to use there"
    )
    parser.add_argument(
        *("--against-key-env",), metavar="NAME", default="",
        help="name of the environment variable with the API key for it",
    )  # fmt: skip
    add_server_flags(parser)


def run(args: Namespace) -> int:
    with quiet_interrupt():
        from mlxdeck.server.bench import run as bench

    if args.url:
        refuse_settings(args, "with --url", but=("api_key", "api_key_file"))
    if not args.against:
        refuse_idle(args, "without --against", "against_model", "against_api", "against_key_env")
    options = bench.BenchOptions(
        url=args.url,
        against=args.against,
        against_model=args.against_model,
        against_api=args.against_api or "auto",
        against_key_env=args.against_key_env,
        only=[name.strip() for name in args.only.split(",") if name.strip()],
        quick=args.quick,
        as_json=args.json,
    )
    progress = partial(print, file=sys.stderr, flush=True)
    return bench.run(server_settings(args), options, SERVE, print, progress)
