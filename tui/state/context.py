"""State that the screens share: the data, the shown moment, and the user's preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlxdeck.telemetry.alerts.stream_alarm import StreamAlarm
from mlxdeck.telemetry.analyze.stats import WINDOWS, Window
from mlxdeck.telemetry.analyze.time_series import View
from mlxdeck.telemetry.playback_clock import PlaybackClock
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import SourceChanged
from mlxdeck.tui.state.beside import Beside
from mlxdeck.tui.state.preferences import Preferences
from mlxdeck.tui.state.request_query import RequestQuery, Rows


@dataclass(slots=True)
class Context:
    """Owned by the application; screens read it, and post messages to have it changed."""

    places: Sequence[Path]
    """Where streams are looked for."""
    store: Store
    clock: PlaybackClock
    listing: RequestQuery
    alarm: StreamAlarm
    ways: Preferences
    window: Window = WINDOWS[1]
    source: SourceChanged = field(default_factory=lambda: SourceChanged([]))
    sought: frozenset[str] = frozenset()
    """Texts that are being looked for, while not all that was captured has been looked through."""
    beside: Beside = field(default_factory=Beside)
    n_held: int = 0
    """How many requests there were when the view was held."""

    @property
    def place_names(self) -> list[str]:
        """Where streams are looked for, as the user named it."""
        urls = {mirror.folder: mirror.url for mirror in self.beside.mirrors}
        return [urls.get(path, str(path)) for path in self.places]

    @property
    def is_silent(self) -> bool:
        """Whether a server that was heard is not heard any more.

        One that answers elsewhere is there. Of one whose clock is ahead, nothing is known yet.
        """
        is_there = any(not mirror.trouble for mirror in self.beside.mirrors)
        is_ahead = self.store.last_ts > self.clock.wall
        return bool(self.store.header) and self.clock.over and not is_there and not is_ahead

    @property
    def as_of_ts(self) -> float:
        """What happened later is not shown: infinity unless something is replayed, or held."""
        return self.clock.now if self.clock.replay or self.clock.paused else float("inf")

    @property
    def rows(self) -> Rows:
        """The requests that are listed."""
        held = self.clock.paused and not self.clock.replay
        return self.listing.rows(self.as_of_ts, self.n_held if held else None)

    @property
    def view(self) -> View:
        """The same as a choice for computed figures."""
        return self.listing.view_at(self.as_of_ts)
