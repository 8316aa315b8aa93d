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

from mlxdeck.server.log_format import STACK

log = logging.getLogger(__name__)

WATCH_S = 1.0
"""How often it is looked whether a thread still moves, at most."""
MAX_GRACE_S = 10.0
"""How long a thread that has been found to hang may still come back."""
QUIET_SHARE = 0.0005
"""A load that uses less than this share of one core does nothing; a slow download uses more."""


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
            log.error("%s", self.stalled, extra={STACK: self._activity.stack()})
            self._tell(self.stalled)
        elif self.stalled and not stuck:
            log.warning("the engine makes progress again")
            self.stalled = ""
        if self._activity.stuck(self._stall_s + min(self._stall_s, MAX_GRACE_S)):
            self._give_up(self.stalled)


class LoadWatch:
    """Notices that a load stands still. It is one long call, so there are no steps to watch.

    A load reads files or a network, and makes arrays. All of that takes time of the processor, in
    several threads. A load that spins is not noticed.
    """

    def __init__(self, stall_s: float, give_up: Callable[[str], None]) -> None:
        """`give_up` gets the reason."""
        self._stall_s = stall_s
        self._give_up = give_up

    async def run(self) -> None:
        """Watch until it is cancelled, or until the load stands still."""
        moved_s, used_s = time.monotonic(), _used_by_others_s()
        while time.monotonic() - moved_s < self._stall_s:
            await asyncio.sleep(min(WATCH_S, self._stall_s / 4))
            now_used_s = _used_by_others_s()
            if now_used_s - used_s > QUIET_SHARE * self._stall_s:
                moved_s, used_s = time.monotonic(), now_used_s
        self._give_up(f"the model made no progress for {self._stall_s:.0f} s, at loading")


def _used_by_others_s() -> float:
    """Processor time of all threads but this one, which may be busy with clients that ask."""
    return time.process_time() - time.thread_time()
