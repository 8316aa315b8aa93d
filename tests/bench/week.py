"""`mlxdeck report` over a week: the recorded day again and again, with other ids and later times.

python -m tests.bench.week [REQUESTS]
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.bench.figures import figure
from tests.bench.load import heading

N_REQUESTS = 200_000
DAY = Path(__file__).parent.parent / "data" / "day.jsonl"
_TIMES = re.compile(rb'"(ts|mono|seq)":([0-9.]+)')
_MB = 1024 if sys.platform != "darwin" else 1024 * 1024


def generate(path: Path, n_requests: int) -> int:
    """Writes at least so many requests; returns how many.

    Ids of requests and sessions differ between the copies, and what the server says of itself is
    written once.
    """
    lines = DAY.read_bytes().splitlines()
    events = [json.loads(line) for line in lines]
    first_ts, last_ts = events[0]["ts"], events[-1]["ts"]
    ids = {event["request_id"] for event in events if event.get("request_id")}
    sessions = {event["session_id"] for event in events if event.get("session_id")}
    names = re.compile(b"|".join(re.escape(name.encode()) for name in sorted(ids | sessions)))
    once: list[bytes] = []
    again: list[bytes] = []
    for line, event in zip(lines, events, strict=True):
        is_own = event["event"].startswith(("stream.", "server."))
        (once if is_own else again).append(line)
    n_copies = -(-n_requests // len(ids))
    with path.open("wb") as file:
        file.writelines(line + b"\n" for line in once if b'"server.stop"' not in line)
        for number in range(n_copies):
            later_s = number * (last_ts - first_ts + 1)
            text = names.sub(partial(_renamed, number), b"\n".join(again))
            file.write(_TIMES.sub(partial(_moved, later_s, number), text))
            file.write(b"\n")
    return n_copies * len(ids)


def _renamed(number: int, found: re.Match[bytes]) -> bytes:
    return found[0] + b"-%d" % number


def _moved(later_s: float, number: int, found: re.Match[bytes]) -> bytes:
    if found[1] == b"seq":
        return b'"seq":%d' % (int(found[2]) + number * 1_000_000)
    return b'"%s":%.6f' % (found[1], float(found[2]) + later_s)


def week(n_requests: int = N_REQUESTS) -> None:
    """The time and the memory of one report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlxdeck-20260921-131320-7.jsonl"
        n_made = generate(path, n_requests)
        heading(f"A report over {n_made:,} requests, {path.stat().st_size / 1e6:.0f} MB")
        began_s = time.perf_counter()
        command = [sys.executable, "-m", "mlxdeck.cli.main", "report", str(path), "--json"]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        figure("report_week", time.perf_counter() - began_s)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"processor {peak.ru_utime + peak.ru_stime:.1f} s, {peak.ru_maxrss / _MB:.0f} MB")
        print(f"findings: {len(told['findings'])}")


if __name__ == "__main__":
    week(*map(int, sys.argv[1:]))
