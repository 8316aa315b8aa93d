"""The controls of a replay: position, speed, and a bar of activity over time.

A click on the bar seeks; a click on the speed makes the replay faster.
"""

from __future__ import annotations

import math

import numpy as np
from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget

from mlxdeck.telemetry.playback_clock import PlaybackClock
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.sparkline import BARS

_PLAY, _PAUSE = "▶", "‖"
_PARTS = ("done", "left", "muted")
_SPEED_CELLS = (2, 7)
"""First and last cell of the speed."""


class Transport(Widget):
    """A line: state, speed, bar, times."""

    COMPONENT_CLASSES = {f"transport--{name}" for name in _PARTS}
    DEFAULT_CSS = """
    Transport { height: 1; padding: 0 1; background: $panel; }
    Transport > .transport--done { color: $primary; }
    Transport > .transport--left { color: $grid; }
    Transport > .transport--muted { color: $dim; }
    """

    class Sought(Message):
        """A place in the recording was clicked, from 0 to 1."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    class Toggled(Message):
        """Play, or pause."""

    class Hurried(Message):
        """The next speed."""

    def __init__(self, clock: PlaybackClock, store: Store, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._store = store
        self._bar = (0, 1)
        self._drawn: tuple[object, str] = (None, "")
        self._shown: object = None

    def refresh_changed(self) -> None:
        """Draw the clock's state, if it looks another way than on the screen."""
        if self._texts() != self._shown:
            self.refresh()

    def render(self) -> Text:
        """Draw the clock's state."""
        self._shown = left, done, left_over, right = self._texts()
        self._bar = (len(left), len(done) + 1 + len(left_over))
        styles = (self.get_component_rich_style(f"transport--{name}") for name in _PARTS)
        done_style, left_style, muted = styles
        return Text.assemble(
            (left, "bold"),
            (done, done_style),
            ("┃", "bold"),
            (left_over, left_style),
            (right, muted),
            no_wrap=True,
        )

    def _texts(self) -> tuple[str, str, str, str]:
        """Left of the bar, the bar up to now and from now on, and right of it."""
        clock = self._clock
        state = _PAUSE if clock.paused else "■" if clock.ended else _PLAY
        several = fmt.days_apart(clock.first_ts, clock.last_ts)
        now = fmt.dated(clock.now) if several else fmt.clock(clock.now)
        left = f"{state} {speed(clock.speed):>5}  {now} "
        passed_s = max(0.0, clock.now - clock.first_ts)
        length_s = max(0.0, clock.last_ts - clock.first_ts)
        right = f" {fmt.duration(passed_s)} of {fmt.duration(length_s)}, {clock.position:.0%}"
        width = max(1, self.content_size.width - len(left) - len(right))
        done, bars = round(clock.position * (width - 1)), self._bars(width)
        return left, bars[:done], bars[done + 1 :], right

    def _bars(self, width: int) -> str:
        """How many requests began when: the more, the higher."""
        clock, times = self._clock, self._store.by_start.times
        key = (len(times), clock.first_ts, clock.last_ts, width)
        if key != self._drawn[0]:
            length_s = max(clock.last_ts - clock.first_ts, 1e-9)
            edges = clock.first_ts + length_s * np.arange(width + 1) / width
            counts = np.diff(np.searchsorted(times, edges))
            # The root keeps a lone request in sight beside a crowd.
            heights = np.ceil(np.sqrt(counts / max(1, counts.max())) * (len(BARS) - 1))
            self._drawn = (key, "".join(BARS[int(height)] for height in heights))
        return self._drawn[1]

    def on_click(self, event: events.Click) -> None:
        """On the bar: go there; on the speed: faster; left of it: play or pause."""
        start, width = self._bar
        x = event.get_content_offset_capture(self).x - start
        if _SPEED_CELLS[0] <= x + start < _SPEED_CELLS[1]:
            self.post_message(self.Hurried())
        elif x < 0:
            self.post_message(self.Toggled())
        elif x < width:
            self.post_message(self.Sought(x / max(1, width - 1)))


def speed(factor: float) -> str:
    """`0.25×`, `4×`, `max`."""
    return "max" if math.isinf(factor) else f"{factor:g}×"
