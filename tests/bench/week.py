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
from collections.abc import Iterator
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
    pieces = _pieces(b"\n".join(again) + b"\n", names)
    with path.open("wb") as file:
        file.writelines(line + b"\n" for line in once if b'"server.stop"' not in line)
        for number in range(n_copies):
            later_s = number * (last_ts - first_ts + 1)
            file.writelines(_copy(pieces, number, later_s))
    return n_copies * len(ids)


def _pieces(text: bytes, names: re.Pattern[bytes]) -> list[tuple[bytes, float | None]]:
    """Text up to something that differs between the copies; the value of a time or a number.

    Found once for all copies: to look for so many names takes longer than to write them.
    """
    found = sorted(
        [(each.end(), None) for each in names.finditer(text)]
        + [(each.end(), (each.start(2), float(each[2]))) for each in _TIMES.finditer(text)],
        key=lambda each: each[0],
    )
    pieces: list[tuple[bytes, float | None]] = []
    at = 0
    for end, told in found:
        start, value = (end, None) if told is None else told
        pieces.append((text[at:start], value))
        at = end
    pieces.append((text[at:], None))
    return pieces


def _copy(pieces: list[tuple[bytes, float | None]], number: int, later_s: float) -> Iterator[bytes]:
    suffix = b"-%d" % number
    for text, value in pieces[:-1]:
        yield text
        if value is None:
            yield suffix
        elif text.endswith(b'"seq":'):
            yield b"%d" % (value + number * 1_000_000)
        else:
            yield b"%.6f" % (value + later_s)
    yield pieces[-1][0]


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
