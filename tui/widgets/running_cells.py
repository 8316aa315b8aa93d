"""The line of a running request in the list: what is known by now, and a bar that moves."""

from __future__ import annotations

import math

from mlxdeck.telemetry.analyze.running_progress import RunningProgress
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.text.running_texts import figures, phase
from mlxdeck.tui.widgets.virtual_list import Cell

BAR_CELLS = 16
"""Where there are figures behind it."""
LEAST_CELLS = 8


def known(of: RunningProgress) -> dict[str, Cell]:
    """Cells by the titles of their columns; those that are missing are not known yet."""
    found: dict[str, Cell] = {"end": (phase(of), "accent" if of.state != "wait" else "warn")}
    if of.prompt_tokens >= 0:
        found["in"] = (fmt.count(of.prompt_tokens), "")
    if of.prompt_tokens > 0 and of.cached_tokens >= 0:
        found["cached"] = (fmt.percent(of.cached_tokens / of.prompt_tokens), "")
    if of.output_tokens > 0:
        found["out"] = (fmt.count(of.output_tokens), "accent")
        if not math.isnan(of.per_s):
            found["tok/s"] = (fmt.rate(of.per_s), "accent")
    return found


def bar(of: RunningProgress, width: int) -> list[Cell]:
    """How much of the prompt is read, and what that is in figures; of others the figures alone."""
    if of.state != "prefill" or math.isnan(of.read_share):
        kind = "warn" if of.state == "wait" else "accent"
        return [(fmt.filled(figures(of, width), width), kind)]
    text = figures(of, width - LEAST_CELLS - 1)
    cells = min(BAR_CELLS, width - len(text) - 1) if text else width
    done = round(of.read_share * cells)
    found: list[Cell] = [("━" * done, "accent"), ("─" * (cells - done), "muted")]
    if text:
        found.append((fmt.filled(f" {text}", width - cells), "accent"))
    return found
