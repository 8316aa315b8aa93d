"""A server that the benchmark starts for itself, in a folder that is removed at the end."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from mlxdeck.server.bench.figures import Say
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops.background import running_server
from mlxdeck.settings.tables import NamedValues


class BenchServer:
    """One server after the other with the same home, each on a port of its own."""

    def __init__(self, settings: Settings, command: Sequence[str], say: Say) -> None:
        self._settings = settings
        self._command = command
        self._say = say
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        """Start it, after the one that runs has ended and written its caches.

        Raises:
            StartFailed: It ended before it was ready.
        """
        self.stop()
        settings = replace(self._settings, port=_free_port())
        self._running.enter_context(running_server(settings, self._command, self._say))
        self.url = settings.url

    def stop(self) -> None:
        """End it."""
        self._running.close()


@contextmanager
def own_server(settings: Settings, command: Sequence[str], say: Say) -> Iterator[BenchServer]:
    """A server of the settings' model; none of the user's caches, files and servers is touched.

    `command` starts one in the foreground.
    """
    with tempfile.TemporaryDirectory(prefix="mlxdeck-bench-") as name:
        home = Path(name)
        settings.models_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What was downloaded or converted serves here too.
        (home / "models").symlink_to(settings.models_folder.resolve(), target_is_directory=True)
        server = BenchServer(alone(settings, home), command, say)
        try:
            yield server
        finally:
            server.stop()


def alone(settings: Settings, home: Path) -> Settings:
    """The same model and limits, without other servers, keys, and places outside of `home`."""
    nothing: NamedValues[str] = NamedValues()
    return replace(
        settings,
        home=home,
        file=None,
        host="127.0.0.1",
        api_key="",
        api_key_file="",
        telemetry_dir="",
        telemetry_processors="",
        shared_cache="",
        warm="",
        upstream="",
        backends=NamedValues(),
        aliases=nothing,
        backend="",
        small_model="",
        small_backend="",
        fallback="",
        # A request that is left when the benchmark is interrupted is nobody's.
        stop_timeout_s=0.0,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
