"""A real server in a process of its own, for tests and benchmarks that go over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdeck.telemetry.schema.codec import Line, decode
from mlxdeck.telemetry.schema.events import RequestEnd

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 600.0
"""A first start fetches and converts the model."""


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> Any:
    """The JSON behind a URL."""
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


def models_home() -> Path:
    """Where converted models are kept between test runs."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlxdeck-tests"
    return Path(os.environ.get("MLXDECK_TEST_MODELS", default))


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    telemetry: Path
    process: subprocess.Popen[str]
    output: list[str]
    """What it has printed so far, line by line."""

    def events(self) -> list[Line]:
        """Every telemetry line it has written."""
        found = (file.read_bytes() for file in sorted(self.telemetry.glob("*.jsonl")))
        # A last line without its end is still being written.
        whole = (content[: content.rfind(b"\n") + 1] for content in found)
        return [decode(line) for content in whole for line in content.splitlines()]

    def ended(self, n_requests: int = 0) -> list[RequestEnd]:
        """Every `request.end`, once there are at least `n_requests` of them."""
        for _ in range(500):
            attrs = [line.attrs for line in self.events()]
            ends = [each for each in attrs if isinstance(each, RequestEnd)]
            if len(ends) >= n_requests:
                return ends
            time.sleep(0.02)
        raise AssertionError(f"only {len(ends)} of {n_requests} requests have ended")

    def end_of(self, response_id: str) -> RequestEnd:
        """The only end of a request; the one before it may be written later than this begins."""
        for _ in range(500):
            if own := [each for each in self.ended() if each.response_id == response_id]:
                (end,) = own
                return end
            time.sleep(0.02)
        raise AssertionError(f"{response_id} has not ended")

    def stop(self) -> int:
        """End it as a user would, and return its exit status."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextmanager
def serving(
    *flags: str, home: Path | None = None, program: str = "mlxdeck.cli.main", **variables: str
) -> Iterator[Server]:
    """Run `mlxdeck serve` until the block ends; it is ready when the block begins.

    `program` is a module that takes the same arguments; `variables` go into its environment.
    """
    with tempfile.TemporaryDirectory() as fallback:
        state = home or Path(fallback)
        state.mkdir(parents=True, exist_ok=True)
        models = models_home()
        models.mkdir(parents=True, exist_ok=True)
        if not (state / "models").exists():
            (state / "models").symlink_to(models)
        port = free_port()
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MLXDECK_")}
        path = os.pathsep.join((str(ROOT / ".pkg"), str(ROOT)))
        environ |= {"MLXDECK_HOME": str(state), "PYTHONPATH": path, **variables}
        command = [sys.executable, "-m", program, "serve", "--port", str(port), *flags]
        process = subprocess.Popen(
            command,
            env=environ,
            cwd=state,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output: list[str] = []
        reader = threading.Thread(target=_read, args=(process, output), daemon=True)
        reader.start()
        server = Server(f"http://127.0.0.1:{port}", state / "telemetry", process, output)
        try:
            wait_for_line(process, output, "ready on")
            yield server
        finally:
            if process.poll() is None:
                server.stop()
            reader.join(5)
            assert process.stdout is not None
            process.stdout.close()


def _read(process: subprocess.Popen[str], output: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line.rstrip())


def wait_for_line(process: subprocess.Popen[str], output: list[str], wanted: str) -> None:
    """Wait until a process has printed a line with `wanted` in it."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if any(wanted in line for line in output):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError("the server did not start:\n" + "\n".join(output[-30:]))
