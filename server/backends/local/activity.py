"""The current work of a thread and its start; and how the event loop detects that it hangs.

A thread that hangs in a library's code can't be ended from outside. So its waiting clients get an
error. If it doesn't return, it is given up, and the process should end.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

WATCH_S = 1.0
"""How often it is looked whether a thread still moves, at most."""
MAX_GRACE_S = 10.0
"""How long a thread that has been found to hang may still come back."""


class Activity:
    """What one thread is at. Its own thread writes, any other reads; no locks are needed."""

    def __init__(self) -> None:
        self._at: tuple[str, float] | None = None
        self._thread = 0

    @contextmanager
    def at(self, what: str) -> Iterator[None]:
        """Say what the thread does inside the block; each block that begins or ends is progress."""
        before = self._at
        self._thread = threading.get_ident()
        self._at = what, time.monotonic()
        try:
            yield
        finally:
            self._at = (before[0], time.monotonic()) if before else None

    def stuck(self, limit_s: float) -> str:
        """What the thread has been at for longer than `limit_s`; empty if it isn't."""
        at = self._at
        return at[0] if at is not None and time.monotonic() - at[1] > limit_s else ""

    def stack(self) -> str:
        """Where in the code the thread is, as a traceback shows it."""
        frame = sys._current_frames().get(self._thread)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""


class StallWatch:
    """Watches one thread for the event loop."""

    def __init__(
        self,
        activity: Activity,
        stall_s: float,
        *,
        tell: Callable[[str], None],
        give_up: Callable[[str], None],
    ) -> None:
        """`tell` is called when the thread hangs, `give_up` if it doesn't return."""
        self._activity = activity
        self._stall_s = stall_s
        self._tell = tell
        self._give_up = give_up
        self._task: asyncio.Task[None] | None = None
        self.stalled = ""
        """Why the thread is thought to hang; empty if it isn't."""

    def start(self) -> None:
        """Watch from now on."""
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(WATCH_S, self._stall_s / 4))
            self.look()

    def look(self) -> None:
        """See whether the thread has moved."""
        stuck = self._activity.stuck(self._stall_s)
        if stuck and not self.stalled:
            self.stalled = f"the model made no progress for {self._stall_s:.0f} s, at {stuck}"
            log.error("%s\n%s", self.stalled, self._activity.stack())
            self._tell(self.stalled)
        elif self.stalled and not stuck:
            log.warning("the engine makes progress again")
            self.stalled = ""
        if self._activity.stuck(self._stall_s + min(self._stall_s, MAX_GRACE_S)):
            self._give_up(self.stalled)
