"""The benchmark's figures: their names in JSON, their titles and units, and how samples become one.

Pure values.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["s", "ms", "tokens", "tokens/s", "tokens/pass", "share", "x"]
GROUPS = ("prompts", "repeat", "clients", "rewrite", "held", "restart")
"""In the order in which they are measured. Each is a name for `--only`."""
CLIENTS = (1, 4, 8)

Say = Callable[[str], None]
"""Takes one line for the user."""


@dataclass(frozen=True, slots=True)
class BenchFigure:
    """One row of the table."""

    name: str
    """In JSON, with its unit."""
    group: str
    title: str
    unit: Unit
    of: tuple[str, str] | tuple[()] = ()
    """Of which two figures it is the ratio; it is a median of samples otherwise."""

    def shown(self, value: float) -> str:
        """As a person reads it."""
        if self.unit == "share":
            return f"{value:.1%}"
        if self.unit == "tokens":
            return f"{value:,.0f}"
        digits = 3 if value < 0.1 else 2 if value < 10 or self.unit == "x" else int(value < 1000)
        return f"{value:,.{digits}f} {self.unit}"


FIGURES = (
    # In the order of the table.
    BenchFigure("prompt_tokens", "prompts", "prompt, system prompt included", "tokens"),
    BenchFigure("cold_ttft_s", "prompts", "first token, prompt not known", "s"),
    BenchFigure("prefill_tokens_per_s", "prompts", "prompt tokens a second", "tokens/s"),
    BenchFigure("turn_two_ttft_s", "prompts", "first token, second turn", "s"),
    BenchFigure("turn_two_computed", "prompts", "tokens computed per prompt token", "share"),
    BenchFigure("turn_two_of_new", "prompts", "against reading its new part alone", "x"),
    BenchFigure("known_ttft_s", "prompts", "first token, known prompt, new question", "s"),
    BenchFigure("known_computed", "prompts", "tokens computed per prompt token", "share"),
    BenchFigure(
        "known_of_cold", "prompts", "against the unknown prompt", "x",
        ("known_ttft_s", "cold_ttft_s"),
    ),
    BenchFigure("restart_ttft_s", "restart", "first token, known prompt after a restart", "s"),
    BenchFigure("restart_computed", "restart", "tokens computed per prompt token", "share"),
    BenchFigure(
        "restart_of_cold", "restart", "against the unknown prompt", "x",
        ("restart_ttft_s", "cold_ttft_s"),
    ),
    BenchFigure("repeat_ms", "repeat", "the same request again, whole answer", "ms"),
    *(
        BenchFigure(
            f"tokens_per_s_{n}", "clients", f"{n} client{'s' * (n > 1)}, all tokens", "tokens/s"
        )
        for n in CLIENTS
    ),
    BenchFigure(
        "batch_gain", "clients", "8 clients against 1", "x",
        ("tokens_per_s_8", "tokens_per_s_1"),
    ),
    BenchFigure("plain_tokens_per_s", "rewrite", "an answer that repeats nothing", "tokens/s"),
    BenchFigure(
        "rewrite_tokens_per_s", "rewrite", "a file of the prompt written again", "tokens/s",
    ),
    BenchFigure(
        "rewrite_of_plain", "rewrite", "against the other answer", "x",
        ("rewrite_tokens_per_s", "plain_tokens_per_s"),
    ),
    BenchFigure("rewrite_tokens_per_pass", "rewrite", "for each pass of the model", "tokens/pass"),
    BenchFigure("rewrite_copied", "rewrite", "of the answer is in the file", "share"),
    BenchFigure("free_tokens_per_s", "held", "an answer in free text", "tokens/s"),
    BenchFigure("held_tokens_per_s", "held", "a call constrained to a schema", "tokens/s"),
    BenchFigure(
        "held_of_free", "held", "against free text", "x",
        ("held_tokens_per_s", "free_tokens_per_s"),
    ),
    BenchFigure("held_tokens_per_pass", "held", "for each pass of the model", "tokens/pass"),
)  # fmt: skip
INDENTED = ("share", "x", "tokens/pass")
"""Units of rows that say more about the row above."""


@dataclass(slots=True)
class Measured:
    """What was measured of one server."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    """Why a group was not measured, by its name."""

    def add(self, name: str, value: float | None) -> None:
        """One more sample; None is what a server doesn't tell."""
        if value is not None:
            self.samples.setdefault(name, []).append(value)

    def figures(self) -> dict[str, float]:
        """Medians and their ratios, in the order of the table."""
        found = {name: statistics.median(values) for name, values in self.samples.items()}
        for each in FIGURES:
            if each.of and all(found.get(name) for name in each.of):
                found[each.name] = found[each.of[0]] / found[each.of[1]]
        return {each.name: found[each.name] for each in FIGURES if each.name in found}


def table(servers: Iterable[tuple[str, Measured]]) -> list[str]:
    """A line a figure, a column a server; what none has is left out."""
    columns = [(name, measured, measured.figures()) for name, measured in servers]
    width = max(16, *(len(name) + 2 for name, _, _ in columns))
    lines = [" " * 46 + "".join(f"{name:>{width}}" for name, _, _ in columns)]
    group = ""
    for each in FIGURES:
        is_known = any(each.name in found or each.group in m.lacking for _, m, found in columns)
        if not is_known:
            continue
        if each.group != group:
            group = each.group
            lines.extend([""] if len(lines) > 1 else [])
        title = ("  " if each.unit in INDENTED else "") + each.title
        lines.append(f"{title:<46}" + "".join(_cell(each, found, width) for *_, found in columns))
    notes = [
        f"{name}, {group}: {why}" for name, measured, _ in columns
        for group, why in measured.lacking.items()
    ]  # fmt: skip
    return [*lines, "", *(f"- = not measured. {note}" for note in notes)] if notes else lines


def _cell(figure: BenchFigure, found: dict[str, float], width: int) -> str:
    value = found.get(figure.name)
    return f"{'-' if value is None else figure.shown(value):>{width}}"
