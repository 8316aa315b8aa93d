"""The table as a page of the documentation."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tests.zoo.families import FAMILIES
from tests.zoo.table import CHECKS, Row

PAGE = Path(__file__).with_name("page.md")
"""What stands around the table."""


def write(rows: Sequence[Row]) -> str:
    """The page."""
    names = [name for name in CHECKS if any(name in row.cells for row in rows)]
    cells = [row.cells[name] for row in rows for name in names]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [f"| family | architecture, tokenizer | format | layers keep | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 4) + "|")
    notes: list[str] = []
    for row in rows:
        family = FAMILIES[row.family]
        shown = [_cell(row, name, notes) for name in names]
        head = [f"{family.architecture}, {family.vocabulary}", family.format, family.states]
        lines.append(f"| {row.family} | {' | '.join([*head, *shown])} |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return PAGE.read_text(encoding="utf-8").format(
        date=datetime.now().astimezone().strftime("%Y-%m-%d"),
        commit=commit or "no commit",
        n_ok=cells.count(""),
        n=len(cells),
        table="\n".join(lines).rstrip(),
    )


def _cell(row: Row, name: str, notes: list[str]) -> str:
    if not row.cells[name]:
        return "ok"
    notes.append(f"{row.family}, {name}: {row.cells[name]}")
    return f"fails ({len(notes)})"
