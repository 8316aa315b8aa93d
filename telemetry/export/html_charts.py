"""Charts of a page: shapes as inline SVG that stretches, all text beside it as HTML.

Text in a stretched drawing would be stretched too, and unreadable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 1000.0, 100.0
GAP_SHARE = 0.2
"""Of a bar's place."""


@dataclass(frozen=True, slots=True)
class ChartLine:
    """Values of a chart, one a step."""

    name: str
    colour: str
    """Name of a CSS class."""
    values: Sequence[float]
    """NaN where there is none."""


@dataclass(frozen=True, slots=True)
class ChartAxis:
    """What stands beside the shapes."""

    title: str
    value: Callable[[float], str]
    """A value for a person."""
    moments: Sequence[str]
    """The name of each step."""


def bars(axis: ChartAxis, parts: Sequence[ChartLine]) -> str:
    """Stacked bars."""
    totals = [sum(values) for values in zip(*(part.values for part in parts), strict=True)]
    top = max([*totals, 0]) or 1
    place = WIDTH / max(1, len(totals))
    shapes = []
    for step, total in enumerate(totals):
        below, told = 0.0, ", ".join(f"{p.name} {axis.value(p.values[step])}" for p in parts)
        if not total:
            continue
        shapes.append(f"<g><title>{escape(f'{axis.moments[step]}: {told}')}</title>")
        for part in parts:
            height = part.values[step] / top * HEIGHT
            if height:
                shapes.append(
                    f'<rect class="{part.colour}" x="{step * place:.2f}"'
                    f' y="{HEIGHT - below - height:.2f}" width="{place * (1 - GAP_SHARE):.2f}"'
                    f' height="{height:.2f}"/>'
                )
            below += height
        shapes.append("</g>")
    return _figure(axis, parts, top, "".join(shapes))


def lines(axis: ChartAxis, parts: Sequence[ChartLine]) -> str:
    """Lines that break where nothing is known; a lonely value is a short dash."""
    known = [value for part in parts for value in part.values if not math.isnan(value)]
    top = max(known, default=0) or 1
    shapes = []
    for part in parts:
        for begin, run in _runs(part.values):
            n = len(part.values)
            points = [
                ((begin + place + 0.5) * WIDTH / n, HEIGHT * (1 - value / top))
                for place, value in enumerate(run)
            ]
            if len(points) == 1:
                (x, y), half = points[0], 0.3 * WIDTH / n
                points = [(x - half, y), (x + half, y)]
            path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
            shapes.append(f'<polyline class="{part.colour}" points="{path}"/>')
    return _figure(axis, parts, top, "".join(shapes))


def _runs(values: Sequence[float]) -> list[tuple[int, list[float]]]:
    found: list[tuple[int, list[float]]] = []
    for place, value in enumerate(values):
        if math.isnan(value):
            continue
        if found and found[-1][0] + len(found[-1][1]) == place:
            found[-1][1].append(value)
        else:
            found.append((place, [value]))
    return found


def _figure(axis: ChartAxis, parts: Sequence[ChartLine], top: float, shapes: str) -> str:
    keys = "".join(
        f'<span class="key"><i class="{part.colour}"></i>{escape(part.name)}</span>'
        for part in parts
    )
    first, last = axis.moments[0], axis.moments[-1]
    middle = axis.moments[len(axis.moments) // 2] if len(axis.moments) > 2 else ""
    times = "".join(f"<span>{escape(each)}</span>" for each in (first, middle, last))
    return (
        f"<figure><figcaption><b>{escape(axis.title)}</b>{keys}</figcaption>"
        f'<div class="top">{escape(axis.value(top))}</div>'
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(axis.title)}">{shapes}</svg>'
        f'<div class="times">{times}</div></figure>'
    )
