"""Print the variables that point agents at a server, for a shell."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from mlxdeck.cli.settings import server_settings
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.flags import add_flags

EXAMPLE = "mlxdeck env --port 8082"


def add(parser: ArgumentParser) -> None:
    add_flags(parser, Settings, only=("host", "port", "model", "api_key", "api_key_file"))


def run(args: Namespace) -> int:
    from mlxdeck.server.ops.agent_session import endpoint
    from mlxdeck.server.ops.agents import exports

    with endpoint(server_settings(args), None, print) as server:
        print("\n".join(exports(server, os.environ)))
    return 0
