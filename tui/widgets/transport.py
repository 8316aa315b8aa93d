"""The controls of a replay: where it stands, how fast it goes; a click on the bar seeks."""

from __future__ import annotations

import math

from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget

from mlxdeck.telemetry.clock import Clock
from mlxdeck.tui import format as fmt

_PLAY, _PAUSE = "▶", "‖"


class Transport(Widget):
    """A line: state, speed, bar, times."""

    COMPONENT_CLASSES = {"transport--done", "transport--left", "transport--muted"}
    DEFAULT_CSS = """
    Transport { height: 1; padding: 0 1; background: $panel; }
    Transport > .transport--done { color: $primary; }
    Transport > .transport--left { color: $foreground 30%; }
    Transport > .transport--muted { color: $foreground 60%; }
    """

    class Sought(Message):
        """A place in the recording was clicked, from 0 to 1."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    class Toggled(Message):
        """Play, or pause."""

    def __init__(self, clock: Clock, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._bar = (0, 1)

    def render(self) -> Text:
        """As the clock stands."""
        clock = self._clock
        muted = self.get_component_rich_style("transport--muted")
        state = _PAUSE if clock.paused else "■" if clock.ended else _PLAY
        left = f"{state} {speed(clock.speed):>5}  {fmt.clock(clock.now)} "
        passed_s = max(0.0, clock.now - clock.first_ts)
        length_s = max(0.0, clock.last_ts - clock.first_ts)
        right = f" {fmt.duration(passed_s)} of {fmt.duration(length_s)}, {clock.position:.0%}"
        width = max(1, self.content_size.width - len(left) - len(right))
        done = round(clock.position * (width - 1))
        self._bar = (len(left), width)
        return Text.assemble(
            (left, "bold"),
            ("━" * done + "●", self.get_component_rich_style("transport--done")),
            ("─" * (width - 1 - done), self.get_component_rich_style("transport--left")),
            (right, muted),
            no_wrap=True,
        )

    def on_click(self, event: events.Click) -> None:
        """On the bar: go there; left of it: play or pause."""
        start, width = self._bar
        x = event.get_content_offset_capture(self).x - start
        if x < 0:
            self.post_message(self.Toggled())
        elif x < width:
            self.post_message(self.Sought(x / max(1, width - 1)))


def speed(factor: float) -> str:
    """`0.25×`, `4×`, `max`."""
    return "max" if math.isinf(factor) else f"{factor:g}×"
