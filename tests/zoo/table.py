"""Families by checks: who is asked what, and how it is printed."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.real import serving
from tests.zoo import held, prompts, reuse
from tests.zoo.asking import Subject
from tests.zoo.families import FAMILIES, Family

Check = Callable[[Subject], str]
"""What is wrong; empty if nothing is."""

CHECKS: Mapping[str, Check] = {
    "loads": prompts.loads,
    "window": prompts.window,
    "template": prompts.template_tried,
    "forced": held.forced,
    "auto": held.auto,
    "JSON": held.answers,
    "control": prompts.control_tokens,
    "histories": prompts.conversations,
    "cancel": reuse.cancelled,
    "reuse": reuse.second_turn,
    "restored": reuse.restored,
}
AFTER_RESTART = ("restored",)
"""Asked of a second server, which finds the first one's files."""
NEEDS = {"restored": "reuse"}
N_WORKERS = 2
FLAGS = ("--prefill-chunk-tokens", "128")


@dataclass(slots=True)
class Row:
    """What was found of one family."""

    family: str
    cells: dict[str, str] = field(default_factory=dict)
    """By check: empty if it holds, else why it doesn't."""
    duration_s: float = 0.0

    @property
    def failed(self) -> dict[str, str]:
        """The checks that don't hold."""
        return {name: reason for name, reason in self.cells.items() if reason}


def run(
    families: Sequence[str], checks: Iterable[str] = CHECKS, told: Callable[[Row], None] = print
) -> list[Row]:
    """Look at families, two at a time; `told` hears of each as soon as it is done."""
    wanted = [name for name in CHECKS if name in set(checks) | {NEEDS.get(each) for each in checks}]
    lock = threading.Lock()

    def one(name: str) -> Row:
        row = look_at(FAMILIES[name], wanted)
        with lock:
            told(row)
        return row

    with ThreadPoolExecutor(N_WORKERS) as workers:
        return list(workers.map(one, families))


def look_at(family: Family, checks: Sequence[str]) -> Row:
    """Ask one family's server everything.

    Raises:
        Unavailable: Its tokenizer can't be had here.
    """
    row, began_s = Row(family.name), time.monotonic()
    folder = family.folder()
    first = [name for name in checks if name not in AFTER_RESTART]
    second = [name for name in checks if name in AFTER_RESTART]
    notes: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as home:
        for names in filter(None, (first, second)):
            try:
                with serving("--model", str(folder), *FLAGS, home=Path(home)) as server:
                    subject = Subject(family, server, notes)
                    for name in names:
                        row.cells[name] = _outcome(CHECKS[name], subject)
            except AssertionError as error:
                lines = [line for line in str(error).splitlines() if line.strip()]
                for name in names:
                    row.cells.setdefault(name, f"the server did not start: {lines[-1][:200]}")
    row.duration_s = time.monotonic() - began_s
    return row


def _outcome(check: Check, subject: Subject) -> str:
    try:
        return check(subject)
    # A check that breaks says something of the server, not of the others.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {str(error)[:200]}"


def as_text(rows: Sequence[Row]) -> str:
    """The table for a terminal, and below it what doesn't hold."""
    names = [name for name in CHECKS if any(name in row.cells for row in rows)]
    width = max(len(row.family) for row in rows)
    lines = [" ".join([" " * width, *names])]
    for row in rows:
        cells = [("ok" if not row.cells[name] else "FAIL").ljust(len(name)) for name in names]
        lines.append(" ".join([row.family.ljust(width), *cells]) + f"  {row.duration_s:5.1f} s")
    lines += [""] + [
        f"{row.family}, {name}: {reason}" for row in rows for name, reason in row.failed.items()
    ]
    n_failed = sum(len(row.failed) for row in rows)
    lines.append(f"{sum(len(row.cells) for row in rows)} cells, {n_failed} failed")
    return "\n".join(lines)
