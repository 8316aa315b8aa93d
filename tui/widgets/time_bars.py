"""Where the time of requests went, as bars on one scale: pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.scale import round_time
from mlxdeck.tui.widgets.virtual_list import Cell

_PHASES = (
    ("queue_s", "┄", "warn"),
    ("load_s", "┄", "warn"),
    ("prefill_s", "━", "accent"),
    ("decode_s", "─", ""),
)
_LEGEND: tuple[Cell, ...] = (("┄ queue ", "warn"), ("━ read ", "accent"), ("─ write ", ""))
_LEGEND_CELLS = sum(len(text) for text, _ in _LEGEND)
MIN_SHOWN_S = 0.001
MIN_SCALE_S = 0.01


def scale_of(seconds: Iterable[float]) -> float:
    """The shortest round time that none of some times is longer than; NaN counts for none."""
    longest_s = max((each for each in seconds if not math.isnan(each)), default=0.0)
    return round_time(max(longest_s, MIN_SCALE_S))


def legend(scale_s: float, width: int) -> list[Cell]:
    """What the bars are, if there is room for it, and what a full one is long."""
    end = f"{fmt.tick(scale_s)}┤"
    told = _LEGEND if _LEGEND_CELLS + len(end) <= width else (("phases ", "muted"),)
    room = width - sum(len(text) for text, _ in told)
    return [*told, (end.rjust(room), "muted")]


def bar(store: Store, row: int, width: int, scale_s: float) -> list[Cell]:
    """The phases of a request one after the other; `width` cells are `scale_s`.

    What took time has a cell at least.
    """
    # Not known is no length: NaN is not more than 0.
    seconds = [max(0.0, float(store.column(name)[row])) for name, _, _ in _PHASES]
    total_s = sum(seconds)
    if total_s < MIN_SHOWN_S or scale_s <= 0:
        return []
    cells = width / scale_s
    ends = [min(width, round(sum(seconds[: n + 1]) * cells)) for n in range(len(seconds))]
    if not ends[-1]:
        ends[seconds.index(max(seconds)) :] = [1] * (len(ends) - seconds.index(max(seconds)))
    starts = [0, *ends]
    return [
        (fill * (end - start), kind)
        for (_, fill, kind), start, end in zip(_PHASES, starts, ends, strict=False)
        if end > start
    ]
