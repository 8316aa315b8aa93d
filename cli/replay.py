"""Show the dashboard on a recording, at any speed. Seek, step by request, pause."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from mlxdeck.cli.places import place
from mlxdeck.cli.settings import add_replay_flags
from mlxdeck.cli.tui import dashboard

EXAMPLE = "mlxdeck replay tests/data/recording.jsonl --speed 4"


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        type=place,
        metavar="PATH",
        help="recordings, or folders of them; - is standard input; or the URL of a server",
    )
    parser.add_argument(
        "--speed", type=_speed, default=1.0, metavar="N", help="0.25 to 64, or max; default: 1"
    )
    add_replay_flags(parser)


def run(args: Namespace) -> int:
    return dashboard(args, args.paths, replay=True, speed=args.speed)


def _speed(text: str) -> float:
    if text == "max":
        return float("inf")
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.25 <= speed <= 64:
        raise ArgumentTypeError("expected a number from 0.25 to 64, or max")
    return speed
