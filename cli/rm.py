"""Remove a model, the cache or telemetry. Without a name, list all that is on disk."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from mlxdeck.cli.settings import refuse_idle, server_settings

EXAMPLE = "mlxdeck rm mlx-community/Qwen3-8B-4bit"


def add(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="what to remove")
    parser.add_argument("--yes", action="store_true", help="ask no question")


def run(args: Namespace) -> int:
    from mlxdeck.server.ops.disk_use import find, on_disk
    from mlxdeck.telemetry.schema.file_names import stream_files

    settings = server_settings(args)
    folder = settings.telemetry_folder
    items = on_disk(settings, stream_files(folder) if folder.is_dir() else [])
    if not args.name:
        refuse_idle(args, "without a name", "yes")
        if not items:
            print("nothing is on this machine's disk yet: no model, cache, telemetry or log")
        for item in items:
            print(f"{item.n_bytes / 1e6:10,.1f} MB  {item.name:<12} {item.what}")
            print(f"{'':15}{item.path}")
        return 0
    item = find(items, args.name)
    question = f"remove {item.name} ({item.n_bytes / 1e6:,.1f} MB in {item.path})? [y/N] "
    if not args.yes and not (
        sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")
    ):
        print("nothing is removed; --yes asks no question")
        return 1
    item.remove()
    print(f"removed {item.name}")
    return 0
