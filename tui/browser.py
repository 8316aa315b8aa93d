"""The dashboard in a browser, by textual-serve: each visitor gets one of their own."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from textual_serve.server import Server

HOST, PORT = "127.0.0.1", 8090
"""This machine only: whoever can reach it can read the streams."""


def serve(command: Sequence[str], port: int = PORT) -> int:
    """Run `command` for everyone who comes, until it is interrupted."""
    Server(shlex.join(command), host=HOST, port=port, title="mlxdeck").serve()
    return 0
