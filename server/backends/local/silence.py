"""Notices that a client has been told nothing for a while."""

from __future__ import annotations

import time


class Silence:
    """The time since a client was last told something, though the model writes.

    A long tool call may be held back until it is whole; the client must not give up meanwhile.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._said_s = time.monotonic()

    def is_long(self, *, said: bool) -> bool:
        """Whether it is time to say something; that counts as said."""
        now_s = time.monotonic()
        is_long = not said and now_s - self._said_s > self._longest_s
        if said or is_long:
            self._said_s = now_s
        return is_long
