"""The figures at the top of the dashboard: what they are called, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Mood = Literal["", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class KpiValue:
    """What is known of a figure."""

    value: str
    trend: tuple[float, ...] = field(default=())
    """Oldest first; NaN for none. Only that of a large figure is drawn."""
    mood: Mood = ""
    top: float | None = None
    """The value of a full bar of the trend; by default the trend's highest value."""
    mark: str = ""
    """A mark after the value, so that colour is not the only sign of the mood."""
    note: str = ""
    """A few words below a large figure."""

    @property
    def text(self) -> str:
        """The value with its mark."""
        return f"{self.value} {self.mark}".rstrip()


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure: its name, how it is called where there is more or less room, what it is."""

    name: str
    labels: tuple[str, ...]
    """From the longest to the shortest."""
    about: str
    filter: str = ""
    """Shows the requests that it counts."""


@dataclass(frozen=True, slots=True)
class TileGroup:
    """A large figure, and others that belong to it."""

    title: str
    large: Tile
    others: tuple[Tile, ...]

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All of them."""
        return self.large, *self.others


GROUPS = (
    TileGroup(
        "requests",
        Tile("requests", ("requests",), "requests that ended in the window"),
        (
            Tile("running", ("running", "run"), "requests in the engine now"),
            Tile("queue", ("queue",), "requests that wait for a place now, of how many may wait"),
            Tile("errors", ("errors",), "requests that ended in an error", "status:error"),
            Tile(
                *("refused", ("refused",), "those of them that the server had no room for"),
                "code=529 or code=503 or code=429",
            ),
        ),
    ),
    TileGroup(
        "speed",
        Tile("P50", ("P50",), "half of the answers were complete after so long"),
        (
            Tile("P95", ("P95",), "19 of 20 were at least this fast; ~: of fewer than 20"),
            Tile("P99", ("P99",), "99 of 100 were at least this fast; ~: of fewer than 100"),
            Tile("TTFT", ("first token", "TTFT"), "median time to the first token"),
            Tile("tok/s", ("tokens/s", "tok/s"), "tokens written a second, now"),
        ),
    ),
    TileGroup(
        "cache",
        Tile("hit rate", ("hit rate",), "share of prompt tokens that were known"),
        (
            Tile("exact", ("exact",), "their share in answers that were repeated", "cache:exact"),
            Tile("prefix", ("prefix",), "share whose KV state was reused", "cache:prefix"),
            Tile(
                *("tokens saved", ("tokens saved", "saved tok", "tokens", "tok")),
                "prompt tokens that were not read",
            ),
            Tile(
                *("time saved", ("time saved", "time saved", "time")),
                "estimate: what reading and writing them would have taken",
            ),
        ),
    ),
    TileGroup(
        "health",
        Tile("memory", ("memory",), "bytes that MLX holds now"),
        (
            Tile("calls", ("tool calls", "calls"), "tool calls, unreadable ones too", "tools>0"),
            Tile("unreadable", ("unreadable", "unread.", "bad"), "calls that could not be read"),
            Tile("failed", ("failed",), "calls that failed, of those whose result is known"),
            Tile("dropped", ("dropped",), "lines of telemetry that could not be written"),
        ),
    ),
)
