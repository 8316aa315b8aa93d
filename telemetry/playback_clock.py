"""The time that a dashboard shows: now, or a place in a recording that moves at some speed.

Of a stream that has ended, now is its end: a window that moved on would be empty.
Live and replay differ in nothing else: all is drawn as of `PlaybackClock.now`. For one thread.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from mlxdeck.telemetry.clock_skew import ClockSkew

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, math.inf)
"""The last one is as fast as it reads."""
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")
_SHIFT = re.compile(r"([+-])\s*(\d+(?:\.\d+)?)\s*([smh])")
_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}.*")
_UNIT_S = {"s": 1, "m": 60, "h": 3600}
DAY_S = 86_400


class PlaybackClock:
    """Wall time, or a recording's; all moments are in Unix seconds."""

    def __init__(
        self, wall: Callable[[], float] = time.time, *, replay: bool = False, speed: float = 1.0
    ) -> None:
        self.replay = replay
        self.speed = speed
        self.first_ts = self.last_ts = 0.0
        self._skew = ClockSkew()
        self._wall = wall
        self._held_ts: float | None = None
        self._end_ts: float | None = None
        self._anchor_ts = self._begin_ts = 0.0
        self._anchor_wall_s = wall()

    @property
    def now(self) -> float:
        """The moment that is shown."""
        if self._held_ts is not None:
            return self._held_ts
        return self._running

    @property
    def unheld(self) -> float:
        """The present, also while it is paused; of a replay, the moment that is shown."""
        return self.now if self.replay else self._running

    @property
    def wall(self) -> float:
        """The real time, whatever is shown, by the clock of the stream."""
        return self._wall() + self._skew.seconds

    @property
    def over(self) -> bool:
        """Whether it stands at the end of a live stream that has ended."""
        return self._end_ts is not None

    @property
    def shows_end(self) -> bool:
        """Whether that end is what is shown; a view may be held at a moment before it."""
        return self._end_ts is not None and self.now >= self._end_ts

    def end_at(self, ts: float | None) -> None:
        """Stand at the end of a live stream; None for one that goes on."""
        self._end_ts = None if self.replay else ts

    @property
    def paused(self) -> bool:
        """Whether the user has paused the clock."""
        return self._held_ts is not None

    @property
    def ended(self) -> bool:
        """Whether a replay has reached the recording's end."""
        return self.replay and self.now >= self.last_ts

    @property
    def position(self) -> float:
        """How far into the recording, from 0 to 1."""
        length_s = self.last_ts - self.first_ts
        return min(1.0, max(0.0, (self.now - self.first_ts) / length_s)) if length_s > 0 else 1.0

    @property
    def _running(self) -> float:
        if not self.replay:
            return self.wall if self._end_ts is None else self._end_ts
        if math.isinf(self.speed):
            return self.last_ts
        passed_s = (self._wall() - self._anchor_wall_s) * self.speed
        return min(self.last_ts, self._anchor_ts + passed_s)

    def bounds(self, first_ts: float, last_ts: float, begin_ts: float = math.inf) -> None:
        """Set the range of the recording; of a live stream, only its newest moment counts.

        The first call starts to play at its start.

        `begin_ts` is the first moment with something to see: it plays from there, unless the user
        went somewhere else.
        """
        if not self.replay:
            self._skew.heard(last_ts, self._wall())
            return
        begin_ts = first_ts if math.isinf(begin_ts) else begin_ts
        if not self.last_ts:
            self._anchor_wall_s = self._wall()
        if not self.last_ts or self._anchor_ts == self._begin_ts != begin_ts:
            self._anchor_ts = begin_ts
        self._begin_ts = begin_ts
        self.first_ts, self.last_ts = first_ts, last_ts

    def toggle(self) -> None:
        """Pause or resume: a replay continues where it paused, live continues at the present."""
        if self._held_ts is None and not self.ended:
            self._held_ts = self.now
            return
        held, self._held_ts = self.now, None
        if self.replay:
            # At the end, to resume means to start again, at a speed that the user can follow.
            if math.isinf(self.speed) and held >= self.last_ts:
                self.speed = 1.0
            self._play_from(self.first_ts if held >= self.last_ts else held)

    def seek(self, ts: float) -> None:
        """Go to a moment of the recording."""
        ts = min(self.last_ts, max(self.first_ts, ts))
        if self._held_ts is not None or math.isinf(self.speed):
            # As fast as it reads it would be at its end again at once.
            self._held_ts = ts
        else:
            self._play_from(ts)

    def hold_at(self, ts: float) -> None:
        """Go to a moment and pause there."""
        self._held_ts = min(self.last_ts, max(self.first_ts, ts))

    def faster(self, steps: int) -> None:
        """Change the speed by steps through `SPEEDS`."""
        nearest = min(range(len(SPEEDS)), key=lambda n: abs(SPEEDS[n] - self.speed))
        if self.speed in SPEEDS:
            nearest = SPEEDS.index(self.speed)
        at = self.now
        self.speed = SPEEDS[min(len(SPEEDS) - 1, max(0, nearest + steps))]
        if self.replay and self._held_ts is None:
            self._play_from(at)

    def _play_from(self, ts: float) -> None:
        self._anchor_ts, self._anchor_wall_s = ts, self._wall()


def moment(text: str, clock: PlaybackClock) -> float:
    """The moment for a user's `50%`, `14:03`, `2026-11-24 14:03:20`, `1m30s`, `+30s` or `-5m`.

    Raises:
        ValueError: It is none of these, or the time is not in the recording.
    """
    ts = _meant(text.strip(), clock)
    if not clock.first_ts - 1 <= ts <= clock.last_ts + 1 and not _SHIFT.fullmatch(text.strip()):
        first, last = (
            time.strftime("%d %b %H:%M:%S", time.localtime(each))
            for each in (clock.first_ts, clock.last_ts)
        )
        raise ValueError(f"the recording goes from {first} to {last}")
    return ts


def _meant(text: str, clock: PlaybackClock) -> float:
    if found := _PERCENT.fullmatch(text):
        return clock.first_ts + (clock.last_ts - clock.first_ts) * float(found[1]) / 100
    if found := _SHIFT.fullmatch(text):
        shift_s = float(found[2]) * _UNIT_S[found[3]]
        return clock.now + (shift_s if found[1] == "+" else -shift_s)
    if text and (found := _SPAN.fullmatch(text)):
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return clock.first_ts + (hours * 60 + minutes) * 60 + seconds
    if found := _TIME.fullmatch(text):
        there = time.localtime(clock.now)
        named = (int(found[1]) * 60 + int(found[2])) * 60 + int(found[3] or 0)
        midnight = clock.now - ((there.tm_hour * 60 + there.tm_min) * 60 + there.tm_sec)
        # The day on which that time lies within the recording, if there is one.
        days = (midnight + named + n * DAY_S for n in (0, -1, 1))
        within = [ts for ts in days if clock.first_ts <= ts <= clock.last_ts + 1]
        return within[0] if within else midnight + named
    if _DAY.fullmatch(text):
        with suppress(ValueError):
            return datetime.fromisoformat(text).astimezone().timestamp()
    raise ValueError(
        "a time like 14:03 or 1m30s, a share like 50%, or a step like +30s is expected"
    )
