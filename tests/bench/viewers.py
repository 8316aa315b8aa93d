"""The dashboard against those it could be taken for: toolong on the same file, Textual's DataTable.

Both programs run in a terminal of their own, as their user has them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.app import ComposeResult
from textual.widgets import DataTable

from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.tui.themed import Themed
from mlxdeck.tui.widgets.request_table import COLUMNS, RequestTable
from tests.bench.competitors import environment

SIZE = (36, 140)
GIVEN_UP_S = 120.0
QUIET_S = 3.0
_CODES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Opened:
    """How opening a file went."""

    first_s: float
    """Until something of the file was on the screen."""
    loaded_s: float
    memory_mb: float


def opened(command: Sequence[str], first: bytes, loaded: bytes) -> Opened:
    """Open a file in a program until `loaded` is shown; if that is empty, until it is quiet."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
    began_s = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        # Where Textual draws.
        stderr=follower,
        env={**environment(), "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(follower)
    first_s = last_s = 0.0
    seen = b""
    while (now_s := time.perf_counter() - began_s) < GIVEN_UP_S:
        if select.select([leader], [], [], 0.05)[0]:
            seen = seen[-4000:] + _CODES.sub(b"", os.read(leader, 1 << 16))
            last_s = now_s
        if not first_s and first in seen:
            first_s = now_s
        if first_s and (loaded in seen if loaded else now_s - last_s > QUIET_S):
            break
    memory_mb = _peak_mb(process.pid)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(10)
    os.close(leader)
    return Opened(first_s, last_s, memory_mb)


def _peak_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return float("nan")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else float("nan")


def against_toolong(path: Path, n_requests: int) -> None:
    """Both on one file, in turn."""
    own = [sys.executable, "-m", "mlxdeck.cli.main", "tui", str(path)]
    rows = {"mlxdeck": opened(own, b"newest of", f"newest of {n_requests:,}".encode())}
    if found := shutil.which("tl"):
        rows["toolong"] = opened([found, str(path)], b"req_7_", b"")
    else:
        print("toolong's `tl` is not on PATH")
    print(f"{'in a terminal':<20}{'first rows':>12}{'loaded':>12}{'memory':>12}")
    for name, row in rows.items():
        print(f"{name:<20}{row.first_s:>10.2f} s{row.loaded_s:>10.2f} s{row.memory_mb:>9.0f} MB")


class _Tables(Themed):
    """A table of each kind over the same requests."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.store = read([path])

    def compose(self) -> ComposeResult:
        yield RequestTable(self.store)
        yield DataTable()


async def against_datatable(path: Path, n_listed: int = 200, n_times: int = 12) -> None:
    """How much work one change is until it is drawn; a DataTable is filled anew as dolphie does."""
    app = _Tables(path)
    async with app.run_test(size=(140, 70)) as pilot:
        own, other = app.query_one(RequestTable), app.query_one(DataTable)
        other.add_columns(*(column.title for column in COLUMNS))
        rows = app.store.by_start.rows
        took: dict[str, list[float]] = {"own": [], "DataTable": []}
        for turn in range(n_times):
            listed = rows[turn : turn + n_listed]
            began_s = time.process_time()
            own.show(listed, turn)
            await pilot.pause()
            took["own"].append(time.process_time() - began_s)
            began_s = time.process_time()
            other.clear()
            other.add_rows(
                [column.cell(app.store, int(row))[0] for column in COLUMNS] for row in listed
            )
            await pilot.pause()
            took["DataTable"].append(time.process_time() - began_s)
    own_ms, other_ms = (statistics.median(values) * 1000 for values in took.values())
    print(f"a change of {n_listed} listed, own     {own_ms:8.1f} ms")
    print(f"the same with a DataTable       {other_ms:8.1f} ms   ({other_ms / own_ms:.1f} times)")


def compare(path: Path, n_requests: int) -> None:
    """Everything."""
    against_toolong(path, n_requests)
    asyncio.run(against_datatable(path))
