"""How far the clock of what writes a stream is from this machine's, by when its lines come. Pure.

A recording of another machine may be hours away, and still be written to.
"""

from __future__ import annotations

MIN_SKEW_S = 5.0
"""Less is what it takes until lines are here, and no other clock."""
LEAST_S = 1.0
"""Lines that come at once with those before say nothing: a copy of an old stream comes so too."""
SLACK_S = 15.0
"""A server ticks every ten seconds: the line before may be that old when the next one comes."""


class ClockSkew:
    """Of one live stream. For one thread."""

    def __init__(self) -> None:
        self._heard: tuple[float, float] | None = None
        """The time of a line, and of this machine when it came."""
        self._skew_s = 0.0

    @property
    def seconds(self) -> float:
        """What is to be added to this machine's time; 0 as long as nothing else is known."""
        return self._skew_s if abs(self._skew_s) > MIN_SKEW_S else 0.0

    def heard(self, last_ts: float, wall_ts: float) -> None:
        """The newest line that has come by `wall_ts` is of `last_ts`.

        Both clocks have to go on equally long: lines that were written before come faster.
        """
        if self._heard is None:
            self._heard = last_ts, wall_ts
            return
        written_s, passed_s = last_ts - self._heard[0], wall_ts - self._heard[1]
        if written_s <= 0 or 0 <= passed_s < LEAST_S:
            return
        self._heard = last_ts, wall_ts
        if passed_s < 0 or written_s > passed_s + SLACK_S:
            return
        found_s = last_ts - wall_ts
        # The quicker a line was here, the more exact it is.
        if not 0 <= self._skew_s - found_s <= MIN_SKEW_S:
            self._skew_s = found_s
