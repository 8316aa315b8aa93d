"""Run realistic scenarios against a server. Each prints PASS or FAIL, and its time."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mlxdeck.cli.settings import refuse_idle, server_settings
from mlxdeck.server.config.api_keys import first_key
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.flags import add_flags

EXAMPLE = "mlxdeck check http://127.0.0.1:8081"

_TEXTS = {
    "host": "Host of the server, where no URL is given.",
    "port": "Its port.",
    "api_key": "API key to send; of several, the first. Prefer the environment.",
    "api_key_file": "File whose first line is the key.",
}
"""What the server's settings mean to its client."""


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="address of the server; default: from the settings"
    )
    parser.add_argument("--only", metavar="NAME,...", default="", help="run these scenarios alone")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_flags(parser, Settings, only=tuple(_TEXTS), texts=_TEXTS)


def run(args: Namespace) -> int:
    from mlxdeck.server.ops import conformance

    if args.url:
        refuse_idle(args, "with URL", "host", "port")
    settings = server_settings(args)
    url, only = args.url or settings.url, list(filter(None, args.only.split(",")))
    return conformance.run(url, first_key(settings), print, only=only, as_json=args.json)
