"""A server that is killed: what is shown while the dashboard looks, and after its restart."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxdeck.telemetry.read import local_processes
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.workers import tail_worker
from tests.streams import NAME, START_TS, Stream
from tests.tui.running import Running


def header() -> t.StreamStart:
    return t.StreamStart(
        model="m", host=platform.node(), server_address="127.0.0.1", server_port=8081
    )


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """What stands for a server."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


async def test_it_is_missed_at_once_and_what_it_lost_stays_in_sight(
    tmp_path: Path, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before its silence tells; its file is read beside that of the next one."""
    monkeypatch.setattr(tail_worker, "ASK_S", 0.02)
    monkeypatch.setattr(local_processes, "BUSY_FRESH_S", 1.0)
    now_s = time.time() - START_TS
    reading = t.RequestProgress(state="prefill", prompt_tokens=90, cached_tokens=0, read_tokens=9)
    stream, path = Stream(process.pid), tmp_path / NAME
    lines = [
        stream.line(header(), now_s - 4),
        stream.line(t.RequestStart(), now_s - 3.5, "req_1"),
        stream.line(reading, now_s - 2, "req_1"),
        stream.tick(now_s - 0.9, active=1),
    ]
    path.write_bytes(b"".join(lines))
    app = Dashboard([tmp_path])
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n_open == 1)
        assert "● live" in run.text
        process.kill()
        await run.until(lambda: app.store.n_open == 0)
        assert "server gone" in run.text and "1 request was lost" in run.text
        # The list and the page agree.
        assert "2.60s" in run.text
        await run.press("enter")
        assert "2.60s" in run.text and "lost" in run.text
    later = Stream(process.pid + 1)
    newer = tmp_path / NAME.replace("-7.", "-8.")
    newer.write_bytes(later.line(header(), now_s) + later.tick(now_s))
    os.utime(path, (now_s + START_TS - 5,) * 2)
    app = Dashboard([tmp_path])
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, newer)
        await run.until(lambda: app.store.n_lines == 6)
        assert app.store.n == 1 and "1 request was lost" in run.text


async def test_a_pipe_that_was_closed_is_told_as_such(tmp_path: Path) -> None:
    """Nobody was killed, as far as is known."""
    pipe, stream = tmp_path / "pipe", Stream()
    os.mkfifo(pipe)
    app = Dashboard([pipe], clock=lambda: START_TS + 12)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, pipe)
        with pipe.open("wb") as file:
            file.write(stream.line(header(), 1) + stream.tick(10))
        await run.until(lambda: app.store.n_lines == 2 and bool(app.context.source.left))
        assert "pipe: its writer closed it" in run.text and "killed" not in run.text
