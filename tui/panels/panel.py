"""What a panel is: a widget, and how it shows a moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from textual.widget import Widget

from mlxdeck.telemetry.analyze.stats import Summary
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.state.request_query import Rows

RowName = Literal["charts", "times", "lists"]
"""The rows of the dashboard that hold panels, from top to bottom; each is a container's id."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is shown: the store as of a moment, through the window and the filter."""

    now_s: float
    total: Summary
    """Figures of the window, as filtered."""
    rows: Rows
    """The listed requests, in their order."""
    version: object
    """While it is the same, so are the lists, but for the time so far of what runs."""
    second: int = 0
    """Of the clock, while anything runs."""
    axis_cells: int = 40
    """Width of the narrowest chart: its times have room below all of them."""
    is_held: bool = False
    """Whether the view is paused."""


class QuickPanel:
    """A panel that computes little."""

    def advance(self, moment: Moment) -> bool:
        """Nothing has to be computed before."""
        del moment
        return True


class Panel(Protocol):
    """One panel of one dashboard. It lives as long as its widget."""

    @property
    def widget(self) -> Widget:
        """What is drawn."""

    @property
    def while_hidden(self) -> bool:
        """Whether it is kept up to date while it is hidden, as other parts of the screen ask it."""

    def advance(self, moment: Moment) -> bool:
        """Compute a part of what `show` needs, if that takes long; whether nothing is left."""

    def show(self, moment: Moment) -> None:
        """Draw what changed."""


@dataclass(frozen=True, slots=True)
class PanelKind:
    """A row of the registry. Its place there is its key."""

    id: str
    """Of its widget."""
    name: str
    """As help and palette call it."""
    row: RowName
    new: Callable[[Context, str], Panel]
    """Makes one; gets the id."""
    from_columns: int = 0
    """It is shown at first where the terminal is so wide."""
