"""What parts of the benchmark report: a figure of a row, or of a peer in that row.

A part runs in a process of its own, and may start further ones. All of them append to one file,
which `__main__` reads at the end.
"""

from __future__ import annotations

import json
import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.rows import ROWS, Row

VARIABLE = "MLXDECK_TEST_BENCH"
"""Holds the path of that file; without it, figures are only printed."""
OURS = "mlxdeck"
LIMIT = "limit"
"""Stands for what no program can do better on this machine."""


def figure(name: str, value: float, of: str = OURS) -> None:
    """Report a row's figure, of us, of a peer or of the limit; of several, the median counts."""
    row = ROWS[name]
    _append({"row": name, "of": of, "value": value})
    budget = f"   ({row.budget})" if row.budget and of == OURS else ""
    title = row.what if of == OURS else f"  {of}"
    print(f"{title:<64}{row.shown(value):>14}{budget}", flush=True)


def absent(name: str, why: str, of: str = OURS) -> None:
    """Report that a row's figure can't be had, as of a peer that isn't on PATH."""
    _append({"row": name, "of": of, "why": why})
    print(f"{ROWS[name].what if of == OURS else f'  {of}':<64}  not measured: {why}", flush=True)


def _append(told: dict[str, Any]) -> None:
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")


@dataclass(frozen=True, slots=True)
class Result:
    """A row at the end of a run."""

    row: Row
    values: dict[str, float]
    """Ours, those of peers, and the limit, by name."""
    lacking: dict[str, str]

    @property
    def verdict(self) -> str:
        """`met`, `missed`, `measured` where there is no budget, or why there is no figure."""
        if OURS not in self.values:
            return self.lacking.get(OURS, "not measured")
        if not self.row.budget:
            return "measured"
        return "met" if self.row.meets(self.values[OURS]) else "missed"

    def line(self) -> str:
        """For a person."""
        value = self.values.get(OURS)
        shown = "-" if value is None else self.row.shown(value)
        beside = [f"{of} {self.row.shown(each)}" for of, each in self.values.items() if of != OURS]
        beside += [f"{of}: {why}" for of, why in self.lacking.items() if of != OURS]
        if self.row.elsewhere:
            beside.append(f"elsewhere: {self.row.elsewhere}")
        title = self.row.what + (" (counted)" if self.row.counted else "")
        cells = f"{title:<72}{shown:>12}  {self.row.budget:<10}{self.verdict:<8}"
        return f"{cells}  {'; '.join(beside)}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "row": self.row.name,
            "what": self.row.what,
            "unit": self.row.unit,
            "budget": self.row.budget,
            "counted": self.row.counted,
            "figures": self.values,
            "not_measured": self.lacking,
            "verdict": self.verdict,
        }


def results(lines: Iterable[str], parts: Iterable[str]) -> Iterator[Result]:
    """What was reported, a result for each row of some parts, in the order of the rows."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    lacking: dict[str, dict[str, str]] = defaultdict(dict)
    for line in lines:
        told = json.loads(line)
        if "why" in told:
            lacking[told["row"]][told["of"]] = told["why"]
        else:
            values[told["row"]][told["of"]].append(told["value"])
    wanted = set(parts)
    for row in ROWS.values():
        if row.part in wanted:
            medians = {of: statistics.median(found) for of, found in values[row.name].items()}
            yield Result(row, medians, lacking[row.name])
