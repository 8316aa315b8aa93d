"""`mlxdeck serve` with an engine that takes its time, and hardly any room for clients that lag."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mlxdeck.cli.main import main
from mlxdeck.server import launch
from mlxdeck.server.backends.local.engine.api import Engine
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.config.settings import Settings

STEP_S = 0.002
_port = launch._port


@contextmanager
def narrow(settings: Settings) -> Iterator[socket.socket]:
    """A port whose connections inherit small buffers."""
    with _port(settings) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield listener


def slow_engine(settings: Settings) -> Engine:
    """So many steps a second."""
    del settings
    return EchoEngine(step_s=STEP_S)


if __name__ == "__main__":
    launch._port = narrow
    launch.make_engine = slow_engine
    sys.exit(main())
