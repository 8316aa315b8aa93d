"""The line of a running request in the list: what is known by now, and a bar that moves."""

from __future__ import annotations

import math

from rich.cells import cell_len

from mlxdeck.telemetry.analyze.running_progress import RunningProgress
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.text.running_texts import figures, phase
from mlxdeck.tui.widgets.virtual_list import Cell

BAR_CELLS = 12
"""As long as the text behind it leaves room."""
LEAST_CELLS = 4


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
    text = figures(of)
    if of.state != "prefill" or math.isnan(of.read_share):
        kind = "warn" if of.state == "wait" else "accent"
        return [(fmt.filled(text, width), kind)]
    cells = min(BAR_CELLS, max(LEAST_CELLS, width - cell_len(text) - 1), width)
    done = round(of.read_share * cells)
    found = [("━" * done, "accent"), ("─" * (cells - done), "muted")]
    if width > cells + 1:
        found.append((fmt.filled(f" {text}", width - cells), "accent"))
    return found
