"""When the screen is drawn: right after news, else once a second, and with rests in between.

A part of the application.
"""

from __future__ import annotations

import time
from asyncio import TimerHandle, get_running_loop
from collections.abc import Iterator

from textual.app import App

from mlxdeck.telemetry.analyze.running_servers import stream_end
from mlxdeck.telemetry.analyze.time_series import PART_ROWS
from mlxdeck.tui.state.context import Context

REDRAW_S = 0.09
"""At most so often."""
REPLAYED_S = 0.15
"""So often while a replay plays."""
AGE_S = 1.0
"""So often without news, for time passes."""
REST = 4
"""Drawing rests for so many times as long as it took, so that it never has all of a core."""
REST_LOADING = 9


class Redrawing(App[None]):
    """Subclasses say what is drawn of a moment."""

    context: Context

    def __init__(self) -> None:
        super().__init__()
        self._stale = True
        """Whether something has changed since what is drawn."""
        self._drawn_s = self._drawn_wall_s = 0.0
        self._rest_until_s = 0.0
        self._parts: Iterator[None] | None = None
        """The parts of the current drawing that are not drawn yet."""
        self._took_s = 0.0
        self._next_look: TimerHandle | None = None

    def _drawing(self, now_s: float) -> Iterator[None]:
        """Draw in parts; what has come before the last part begins is drawn."""
        raise NotImplementedError

    def on_unmount(self) -> None:
        """Nothing is drawn any more."""
        if self._next_look:
            self._next_look.cancel()

    def _find_end(self) -> None:
        clock, store = self.context.clock, self.context.store
        is_closed = bool(self.context.source.left)
        clock.end_at(stream_end(store, clock.wall, is_closed=is_closed))
        store.lose_silent(clock.wall)

    def redraw_now(self) -> None:
        """Draw at the next opportunity, even if nothing changed."""
        self._stale, self._rest_until_s, self._parts = True, 0.0, None
        self.redraw()

    def redraw(self) -> None:
        """Draw what changed, or plan to."""
        if not self.screen_stack:
            # A widget requested this while the screens were being removed.
            return
        clock = self.context.clock
        self._find_end()
        now_s = clock.now
        passed = now_s != self._drawn_s if clock.replay else self._age_s >= AGE_S
        if self._parts is not None:
            return
        if (self._stale or passed) and time.monotonic() >= self._rest_until_s:
            self._drawn_s, self._drawn_wall_s = now_s, clock.wall
            self._rest_until_s = time.monotonic() + REDRAW_S
            self._parts, self._took_s = self._drawing(now_s), 0.0
            self._draw_on()
        else:
            self._plan()

    def _draw_on(self) -> None:
        """Draw all; of many requests, and of those that load, one part a turn of the event loop."""
        loading = self.context.source.loaded < 1
        began_s, at_once = time.monotonic(), not loading and self.context.store.n <= PART_ROWS
        for _ in self._parts or ():
            if not at_once:
                # Messages that wait would be handled in one go, before the keyboard is looked at.
                get_running_loop().call_soon(self.call_later, self._draw_on)
                break
        else:
            self._parts = None
        now_s = time.monotonic()
        self._took_s += now_s - began_s
        rest_s = (REST_LOADING if loading else REST) * self._took_s
        self._rest_until_s = max(self._rest_until_s, now_s + rest_s)
        if self._parts is None:
            self._plan()

    @property
    def _age_s(self) -> float:
        """How long ago the moment was that is drawn; of what stands still, too."""
        return abs(self.context.clock.wall - self._drawn_wall_s)

    def _plan(self) -> None:
        """Look again as soon as there may be something to draw."""
        clock = self.context.clock
        if self._stale:
            wait_s = 0.0
        elif clock.replay:
            wait_s = AGE_S if clock.paused or clock.ended else REPLAYED_S
        else:
            wait_s = AGE_S - self._age_s
        wait_s = max(wait_s, self._rest_until_s - time.monotonic(), 0.01)
        if self._next_look:
            self._next_look.cancel()
        self._next_look = get_running_loop().call_later(wait_s, self.call_later, self.redraw)
