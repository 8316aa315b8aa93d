"""Actions on a replay: seek, step, change the speed. A part of the application."""

from __future__ import annotations

import numpy as np
from textual import on
from textual.binding import Binding

from mlxdeck.telemetry.playback_clock import moment
from mlxdeck.tui.screens.ask import AskScreen
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.themed import Themed
from mlxdeck.tui.widgets.transport import Transport

REPLAY_ACTIONS = {"faster", "step_request", "seek", "go_start", "go_end"}


class Replaying(Themed):
    """Actions and keys; they are off where nothing is replayed."""

    context: Context

    BINDINGS = [
        Binding("plus,equals_sign", "faster(1)", "Faster", key_display="+", show=False),
        Binding("minus", "faster(-1)", "Slower", show=False),
        Binding("right_square_bracket", "step_request(1)", "Step on", key_display="]", show=False),
        Binding("left_square_bracket", "step_request(-1)", "Back", key_display="[", show=False),
        Binding("t", "seek", "Seek", tooltip="Go to a time, a share or by a step"),
        Binding("home", "go_start", "Start", show=False, priority=True),
        Binding("end", "go_end", "End", show=False, priority=True),
    ]

    def redraw_now(self) -> None:
        """Draw at the next opportunity, even if nothing changed."""
        raise NotImplementedError

    def action_faster(self, steps: int) -> None:
        """Change the speed."""
        self.context.clock.faster(steps)
        self.redraw_now()

    def action_step_request(self, step: int) -> None:
        """Pause at the end of the next or the previous request that matches the filter."""
        times, mask = self.context.store.by_end.times, self.context.listing.mask
        if mask is not None:
            times = times[mask[self.context.store.by_end.rows]]
        now = self.context.clock.now
        if step > 0:
            place = int(np.searchsorted(times, now, side="right"))
        else:
            place = int(np.searchsorted(times, now, side="left")) - 1
        if 0 <= place < len(times):
            self.context.clock.hold_at(float(times[place]))
            self.redraw_now()
        else:
            self.bell()

    def action_go_start(self) -> None:
        """To the recording's start."""
        self.context.clock.seek(self.context.clock.first_ts)
        self.redraw_now()

    def action_go_end(self) -> None:
        """To the recording's end."""
        self.context.clock.seek(self.context.clock.last_ts)
        self.redraw_now()

    def action_seek(self) -> None:
        """Ask where to."""
        clock = self.context.clock
        ask = AskScreen("go to", "14:03, 1m30s, 50%, +30s, -5m", lambda text: moment(text, clock))
        self.push_screen(ask, self._seek)

    def _seek(self, text: str | None) -> None:
        if text:
            self.context.clock.seek(moment(text, self.context.clock))
            self.redraw_now()

    @on(Transport.Hurried)
    def _hurry(self) -> None:
        self.action_faster(1)

    @on(Transport.Sought)
    def _seek_share(self, message: Transport.Sought) -> None:
        clock = self.context.clock
        clock.seek(clock.first_ts + (clock.last_ts - clock.first_ts) * message.share)
        self.redraw_now()
