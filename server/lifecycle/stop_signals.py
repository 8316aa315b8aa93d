"""Ctrl+C, SIGTERM and SIGHUP of a running server: one for an orderly stop, a second to end."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mlxdeck.server.lifecycle.interrupts import handled, leave_at_once

AGAIN_AFTER_S = 0.1
"""What comes sooner is the same keystroke: a terminal and a wrapper may both pass it on."""
PATIENCE_S = 2.0
"""Maximal time of the end after a second signal."""
REPEATED = (signal.SIGINT, signal.SIGTERM)
"""Signals that users send twice on purpose. A closing terminal often sends two SIGHUP."""


class StopSignals:
    """Requests to stop by SIGINT, SIGTERM and SIGHUP."""

    def __init__(self) -> None:
        self.first = 0
        """The number of the signal that asked to stop; 0 if none has."""
        self.repeated = 0
        """The number of the one that asked to end at once."""
        self._first_s = 0.0
        self._wake: Callable[[], None] | None = None
        self.asked: asyncio.Event
        self.hurried: asyncio.Event
        """Both for the event loop, once it is attached."""

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals inside the block; SIGHUP only if the parent did not turn it off."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        with handled(dict.fromkeys(numbers, self._on)):
            yield

    def attach(self) -> None:
        """Pass later signals to the running loop, and also the earlier ones."""
        loop = asyncio.get_running_loop()
        self.asked, self.hurried = asyncio.Event(), asyncio.Event()

        def publish() -> None:
            if self.first:
                self.asked.set()
            if self.repeated:
                self.hurried.set()

        self._wake = lambda: _call(loop, publish)
        publish()

    def _on(self, number: int, _: FrameType | None) -> None:
        now_s = time.monotonic()
        if not self.first:
            self.first, self._first_s = number, now_s
        elif number in REPEATED and now_s - self._first_s > AGAIN_AFTER_S:
            if self.repeated:
                leave_at_once(number)
            self.repeated = number
            # The loop itself may be what hangs.
            timer = threading.Timer(PATIENCE_S, leave_at_once, (number,))
            timer.daemon = True
            timer.start()
        if self._wake is not None:
            self._wake()


def _call(loop: asyncio.AbstractEventLoop, publish: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(publish)
