"""The strip of key figures: a name, a value, and how it went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Grid
from textual.widget import Widget

from mlxdeck.tui.messages import FilterChanged

BARS = "▁▂▃▄▅▆▇█"

Mood = Literal["", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class KpiValue:
    """The content of a tile."""

    value: str
    trend: tuple[float, ...] = field(default=())
    """Oldest first; NaN for none."""
    mood: Mood = ""
    top: float | None = None
    """The value of a full bar of the trend; by default the trend's highest value."""
    mark: str = ""
    """A mark after the value, so that colour is not the only sign of the mood."""


def sparkline(values: Iterable[float], width: int, top: float | None = None) -> str:
    """The last `width` values as bars from zero to `top` or the highest; blank for none."""
    shown = np.array(list(values)[-width:], float)
    known = shown[~np.isnan(shown)]
    if not len(known) or known.max() <= 0:
        return ""
    span = top or float(known.max())
    bars = [
        " " if np.isnan(value) else BARS[max(0, min(7, int(value / span * 7.999)))]
        for value in shown
    ]
    return "".join(bars).rjust(width)


class Kpi(Widget):
    """One tile."""

    COMPONENT_CLASSES = {"kpi--name", "kpi--good", "kpi--warn", "kpi--bad", "kpi--trend"}
    DEFAULT_CSS = """
    Kpi {
        height: 3;
        padding: 0 1;
        background: $foreground 5%;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    Kpi > .kpi--name { color: $foreground 60%; }
    Kpi > .kpi--good { color: $text-success; text-style: bold; }
    Kpi > .kpi--warn { color: $text-warning; text-style: bold; }
    Kpi > .kpi--bad { color: $text-error; text-style: bold; }
    Kpi > .kpi--trend { color: $primary; }
    """

    def __init__(self, name: str, tooltip: str) -> None:
        super().__init__(id=f"kpi-{name.replace('/', '-')}")
        self._label = name
        self._figure = KpiValue("–")
        self.tooltip = tooltip

    def show(self, figure: KpiValue) -> None:
        """Show this figure, if it is a new one."""
        if figure != self._figure:
            self._figure = figure
            self.refresh()

    def on_click(self) -> None:
        """Show the requests that it counts."""
        if text := KpiStrip.FILTERS.get(self._label):
            self.post_message(FilterChanged(text))

    def render(self) -> Text:
        """Name, value and trend, a line each."""
        figure, width = self._figure, max(1, self.content_size.width)
        style = f"kpi--{figure.mood}" if figure.mood else ""
        value = f"{figure.value}{' ' + figure.mark if figure.mark else ''}"
        name = self.get_component_rich_style("kpi--name")
        strong = self.get_component_rich_style(style) if style else "bold"
        text = Text.assemble((self._label, name), "\n", (value, strong), no_wrap=True)
        if self.size.height > 2:
            trend = self.get_component_rich_style("kpi--trend")
            text.append("\n" + sparkline(figure.trend, width, figure.top), trend)
        return text


class KpiStrip(Grid):
    """All tiles; `show` fills them by name."""

    TILES = {
        "reqs": "Requests that ended in the window",
        "active": "Requests in the engine · waiting for a place",
        "P50": "Half of the requests were at least this fast",
        "P95": "19 of 20 requests were at least this fast; ~: the slowest of fewer than 20",
        "P99": "99 of 100 requests were at least this fast; ~: the slowest of fewer than 100",
        "TTFT": "Median time to the first token",
        "tok/s": "Tokens generated a second, now",
        "exact": "Share of prompt tokens whose whole answer was repeated; click: show these",
        "prefix": "Share of prompt tokens whose KV state was reused; click: show these",
        "tools": "Tool calls in the window; click: show their requests",
        "errors": "Requests that ended in an error; click: show these",
        "memory": "Bytes that MLX holds now",
    }

    FILTERS = {
        "exact": "cache:exact",
        "prefix": "cache:prefix",
        "tools": "tools>0",
        "errors": "status:error",
    }
    """The panel that a click on a tile shows alone."""

    @property
    def n_buckets(self) -> int:
        """How many bars a trend has room for."""
        return max(4, self.query(Kpi).first().content_size.width)

    def compose(self) -> ComposeResult:
        """One tile for each figure."""
        for name, tooltip in self.TILES.items():
            yield Kpi(name, tooltip)

    def show(self, figures: dict[str, KpiValue]) -> None:
        """Fill the tiles that are named."""
        for name, figure in figures.items():
            self.query_one(f"#kpi-{name.replace('/', '-')}", Kpi).show(figure)
