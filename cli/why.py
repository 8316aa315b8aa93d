"""Print what other caches would have given for a recording."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mlxdeck.cli.recordings import add_places, streams

EXAMPLE = "mlxdeck why tests/data/day.jsonl"


def add(parser: ArgumentParser) -> None:
    add_places(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: Namespace) -> int:
    from mlxdeck.telemetry.analyze.what_if import what_if
    from mlxdeck.telemetry.analyze.what_if_text import what_if_json, what_if_lines
    from mlxdeck.telemetry.control_characters import shown_json
    from mlxdeck.telemetry.read.prompt_paths import traffic_of

    found = what_if(traffic_of(streams(args).files))
    print(
        shown_json(what_if_json(found), indent=1) if args.json else "\n".join(what_if_lines(found))
    )
    return 0
