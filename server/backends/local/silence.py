"""Notices that a stream has sent nothing for a while."""

from __future__ import annotations

import time


class Silence:
    """The time since the last event of a stream, although the model generates.

    A long tool call may be held back until it is complete; the client must not time out meanwhile.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._said_s = time.monotonic()

    def is_long(self, *, said: bool) -> bool:
        """Whether it is time to send something; this resets the time."""
        now_s = time.monotonic()
        is_long = not said and now_s - self._said_s > self._longest_s
        if said or is_long:
            self._said_s = now_s
        return is_long
