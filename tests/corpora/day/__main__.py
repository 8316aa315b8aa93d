"""Write a day of made-up traffic: `python -m tests.corpora.day --hours 8 --seed 1 --out FILE`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.corpora.day.stream import START_TS, lines


def main(arguments: list[str]) -> None:
    """Write it, and say what it holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpora.day", description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--people", type=int, default=3, help="who work at the same time")
    parser.add_argument("--start", type=float, default=START_TS, help="Unix time of the first line")
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args(arguments)
    began_s, n_lines, n_requests = time.perf_counter(), 0, 0
    with told.out.open("wb", buffering=1 << 20) as file:
        for line in lines(told.hours, told.seed, told.people, told.start):
            file.write(line)
            n_lines += 1
            n_requests += b'"event":"request.end"' in line
    size_mb, took_s = told.out.stat().st_size / 1e6, time.perf_counter() - began_s
    print(f"{n_requests:,} requests, {n_lines:,} lines, {size_mb:.1f} MB in {took_s:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
