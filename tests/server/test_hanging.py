"""Real processes whose engine or tokenizer hangs: they tell their clients, and end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import ModelInfo, Progress, Reads, Step
from mlxdeck.server.backends.local.engine.echo import ByteTokenizer, EchoEngine
from mlxdeck.server.lifecycle.exit_status import STATUS_ENGINE_LOST
from tests.real import ROOT, free_port

HANGING = """
import sys
from mlxdeck.server import launch
from mlxdeck.server.backends.local.scheduler import scheduler
from mlxdeck.server.config.settings import Settings
from tests.server.test_hanging import ENGINES
scheduler.STOP_S = 0.5
launch.make_engine = lambda _: ENGINES[sys.argv[2]]()
settings = Settings(
    port=int(sys.argv[1]), stall_s=float(sys.argv[3]), stop_timeout_s=1, ping_s=0.1,
    disk_cache=False, telemetry=False,
)
sys.exit(launch.serve(settings, lambda line: print(line, flush=True)))
"""


class StuckEngine(EchoEngine):
    """Never comes back from a step that has something to do."""

    def step(self, reads: Reads = None) -> list[Step]:
        if self._running:
            threading.Event().wait()
        return super().step(reads)


class StuckTokenizer(ByteTokenizer):
    """Never comes back from a prompt that says `hang`."""

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> str:
        if "hang" in str(messages):
            threading.Event().wait()
        return super().render(messages, tools, options)


class StuckPrompts(EchoEngine):
    """Has such a tokenizer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = StuckTokenizer()


class StuckLoad(EchoEngine):
    """Never comes back from loading its model."""

    def load(self, progress: Progress) -> ModelInfo:
        progress("loading for ever")
        threading.Event().wait()
        return super().load(progress)


class SlowLoad(EchoEngine):
    """Loads for longer than a stall may take, and works all the while."""

    def load(self, progress: Progress) -> ModelInfo:
        until_s = time.monotonic() + 1.5
        while time.monotonic() < until_s:
            sum(range(10_000))
            time.sleep(0.05)
        return super().load(progress)


HANGING_ENGINES = {"engine": StuckEngine, "tokenizer": StuckPrompts}
ENGINES = HANGING_ENGINES | {"load": StuckLoad, "slow load": SlowLoad}


def started(which: str, stall_s: float, port: int) -> subprocess.Popen[str]:
    """A server that may hang."""
    return subprocess.Popen(
        [sys.executable, "-c", HANGING, str(port), which, str(stall_s)],
        env=os.environ | {"PYTHONPATH": f"{ROOT / '.pkg'}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def serving(which: str, stall_s: float) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that will hang, and its port."""
    port = free_port()
    process = started(which, stall_s, port)
    assert process.stdout is not None
    try:
        assert any("ready on" in line for line in process.stdout)
        yield process, port
    finally:
        process.kill()
        process.communicate()


def ask(port: int) -> tuple[int, Any]:
    """Ask the question that hangs."""
    messages = [{"role": "user", "content": "hang"}]
    return answered(port, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": messages})


def health(port: int) -> tuple[int, Any]:
    """What the server says of itself."""
    return answered(port, "/health")


def answered(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and body of an answer."""
    address = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(address) as connection:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def in_threads(work: Sequence[threading.Thread]) -> None:
    """Run until all have ended."""
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()


@pytest.mark.parametrize("which", HANGING_ENGINES)
def test_a_process_that_hangs_tells_everyone_and_ends(which: str) -> None:
    """With the status on which a supervisor starts it again."""
    with serving(which, 1.0) as (process, port):
        answers: list[tuple[int, Any]] = []
        asking = [threading.Thread(target=lambda: answers.append(ask(port))) for _ in range(3)]
        in_threads(asking)
        assert [status for status, _ in answers] == [500] * 3
        assert all("no progress" in body["error"]["message"] for _, body in answers)
        status, body = health(port)
        assert (status, body["status"]) == (503, "unhealthy")
        assert "no progress" in body["reason"]
        assert process.wait(30) == STATUS_ENGINE_LOST
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    # A sentence, and below it where in the code that is.
    (at,) = (n for n, line in enumerate(lines) if " ERROR " in line)
    assert "no progress for 1 s" in lines[at] and len(lines[at]) < 200
    assert lines[at + 1].startswith("  File ")


@pytest.mark.parametrize("which", HANGING_ENGINES)
def test_a_process_that_hangs_obeys(which: str) -> None:
    """Also before anybody has noticed; its clients are told."""
    with serving(which, 600.0) as (process, port):
        answers: list[tuple[int, Any]] = []
        asking = threading.Thread(target=lambda: answers.append(ask(port)))
        asking.start()
        # It has come to where it hangs once it says so, or is about to.
        threading.Event().wait(0.3)
        assert health(port)[1]["status"] == "healthy"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        asking.join()
        assert answers[0][0] >= 500


def test_a_load_that_stands_still_ends_the_process_with_a_reason() -> None:
    """It is one call, which returns nothing to watch."""
    with started("load", 1.0, free_port()) as process:
        printed = process.communicate(timeout=30)[0]
    assert process.returncode == 1
    assert "cannot start: the model made no progress for 1 s, at loading" in printed


def test_a_load_that_takes_long_and_works_is_left_alone() -> None:
    """However long it takes."""
    with serving("slow load", 1.0) as (_, port):
        assert health(port)[1]["status"] == "healthy"
