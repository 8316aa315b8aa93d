"""How the dashboard ends: asked where that ends requests, and with its terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from textual.pilot import Pilot

from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.screens.leave import LeaveScreen
from mlxdeck.tui.state.beside import Beside
from tests.real import ROOT
from tests.streams import NAME, write
from tests.tui.running import REQUESTS

TIMEOUT_S = 30.0


async def pressed(pilot: Pilot[None], key: str, *, asks: bool) -> bool:
    """Press a key; whether the dashboard goes on, once it asks or doesn't."""
    await pilot.press(key)
    for _ in range(500):
        if not pilot.app.is_running or isinstance(pilot.app.screen, LeaveScreen) == asks:
            break
        await pilot.pause(0.01)
    return bool(pilot.app.is_running)


async def test_it_asks_before_it_ends_requests(tmp_path: Path) -> None:
    """Escape stays, a second q leaves; with an idle server it leaves at once."""
    path = write(tmp_path / NAME, REQUESTS)
    app = Dashboard([path], beside=Beside(count_running=lambda: 2))
    async with app.run_test(size=(80, 24)) as pilot:
        assert await pressed(pilot, "q", asks=True)
        assert isinstance(app.screen, LeaveScreen)
        strips = app.screen._compositor.render_strips()
        assert any("2 requests are running" in strip.text for strip in strips)
        assert await pressed(pilot, "escape", asks=False)
        assert await pressed(pilot, "q", asks=True)
        await pilot.press("q")
    assert app._exit
    idle = Dashboard([path], beside=Beside(count_running=lambda: 0))
    async with idle.run_test() as pilot:
        await pressed(pilot, "q", asks=True)
    assert idle._exit


def test_it_ends_when_its_terminal_is_gone(tmp_path: Path) -> None:
    """Also where no signal tells of it, as under nohup."""
    path = write(tmp_path / NAME, REQUESTS)
    command = [sys.executable, "-m", "mlxdeck.cli.main", "tui", str(path)]
    ours, theirs = pty.openpty()

    def deaf() -> None:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    environ = os.environ | {"MLXDECK_HOME": str(tmp_path), "TERM": "xterm-256color"}
    environ["PYTHONPATH"] = str(ROOT / ".pkg")
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=deaf, env=environ
    ) as process:
        os.close(theirs)
        seen, until_s = b"", time.monotonic() + TIMEOUT_S
        while b"mlxdeck" not in seen and time.monotonic() < until_s:
            seen += os.read(ours, 65_536)
        os.close(ours)
        try:
            status = process.wait(TIMEOUT_S)
        finally:
            process.kill()
    assert status == 128 + signal.SIGHUP
