"""`make bench`: what mlxdeck costs and saves, each row with its budget.

python -m tests.bench [PART ...] [--json FILE]

The machine may be shared and noisy, so times are compared within one run only: rounds ask all
competitors in turn, and the median counts. Each part runs in a process of its own; one that fails
leaves its rows without figures. The summary at the end is also written as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlxdeck.server.bench.machine import machine
from mlxdeck.tui.launch import ENVIRON
from tests.bench.competitors import environment
from tests.bench.figures import VARIABLE, Result, results
from tests.bench.load import heading
from tests.bench.parts import PARTS
from tests.real import ROOT

JSON_PATH = ROOT / "build" / "bench.json"


def run(names: Sequence[str], file: Path) -> tuple[dict[str, float], list[str]]:
    """Run parts, which append to a file; return the seconds of each and those that failed."""
    environ = environment() | ENVIRON | {VARIABLE: str(file), "PYTHONUNBUFFERED": "1"}
    took_s, failed = {}, []
    for name in names:
        began_s = time.perf_counter()
        command = [sys.executable, "-m", "tests.bench.parts", name]
        if subprocess.run(command, env=environ, cwd=ROOT, check=False).returncode:
            failed.append(name)
        took_s[name] = time.perf_counter() - began_s
        print(f"[{name}: {took_s[name]:.0f} s]", flush=True)
    return took_s, failed


def summary(found: Sequence[Result], failed: Sequence[str]) -> list[str]:
    """A line a row, and what is to be known of all of them."""
    lines = [each.line() for each in found]
    verdicts = [each.verdict for each in found]
    n_met, n_missed = verdicts.count("met"), verdicts.count("missed")
    n_none = sum(each.verdict not in ("met", "missed", "measured") for each in found)
    lines.append(f"{n_met} met, {n_missed} missed, {n_none} not measured")
    lines += [f"the part {name} failed, see above" for name in failed]
    return lines


def document(
    found: Sequence[Result], took_s: Mapping[str, float], failed: Sequence[str]
) -> dict[str, Any]:
    """The same for a program."""
    return {
        "machine": machine(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "rows": [each.to_json() for each in found],
        "part_s": {name: round(seconds, 1) for name, seconds in took_s.items()},
        "failed": list(failed),
    }


def commit() -> str:
    """Of this checkout; empty where there is no git."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ran.stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, or the parts named on the command line; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="make bench", description=f"Parts: {', '.join(PARTS)}.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="parts to run; all by default")
    parser.add_argument("--json", metavar="FILE", type=Path, default=JSON_PATH)
    args = parser.parse_args(argv)
    if unknown := [name for name in args.parts if name not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    names = args.parts or list(PARTS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures"
        file.touch()
        took_s, failed = run(names, file)
        found = list(results(file.read_text(encoding="utf-8").splitlines(), names))
    heading("Summary")
    print("\n".join(summary(found, failed)))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(document(found, took_s, failed), indent=1), encoding="utf-8")
    print(f"all figures: {os.path.relpath(args.json)}; {sum(took_s.values()) / 60:.1f} minutes")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
