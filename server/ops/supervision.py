"""A server's process that is started again when a fault ends it, but not without end.

An engine that hangs in a library's code, or crashes there, can only be cured by a new process.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from mlxdeck.server.lifecycle.exit_status import ASKED, described, is_fault

log = logging.getLogger(__name__)

MAX_RESTARTS = 5
WINDOW_S = 600.0
"""So often a server is started again within this time; then it stays down."""
FIRST_PAUSE_S = 1.0
"""Before the first of them; it doubles with each."""

Start = Callable[[], "subprocess.Popen[bytes]"]
Say = Callable[[str], None]


class Restarts:
    """How often a process has been started again, and whether once more is reasonable."""

    def __init__(self) -> None:
        self._at_s: deque[float] = deque()

    def pause_s(self, status: int, now_s: float) -> float | None:
        """How long to wait before it is started again; None to leave it.

        `status` is that of a process which ended at `now_s`, of the monotonic clock.
        """
        while self._at_s and now_s - self._at_s[0] > WINDOW_S:
            self._at_s.popleft()
        if not is_fault(status) or len(self._at_s) >= MAX_RESTARTS:
            return None
        self._at_s.append(now_s)
        return FIRST_PAUSE_S * 2.0 ** (len(self._at_s) - 1)


class Supervised:
    """A process that is kept running until `end`. Any thread."""

    def __init__(self, start: Start, say: Say) -> None:
        """Start it. `say` takes a line, on a thread of this object's, when a fault has ended it."""
        self._start = start
        self._say = say
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.process = start()
        self._thread = threading.Thread(target=self._main, name="supervisor", daemon=True)

    def keep(self) -> None:
        """From now on, start it again when a fault ends it."""
        self._thread.start()

    def _main(self) -> None:
        restarts = Restarts()
        while True:
            status = self.process.wait()
            pause_s = restarts.pause_s(status, time.monotonic())
            if self._ending.is_set():
                return
            self._say(news(status, pause_s))
            if pause_s is None or self._ending.wait(pause_s):
                return
            with self._lock:
                if self._ending.is_set():
                    return
                self.process = self._start()

    def end(self) -> subprocess.Popen[bytes]:
        """Start it no more; the process that runs, or has ended, is the caller's to end."""
        with self._lock:
            self._ending.set()
            return self.process


def news(status: int, pause_s: float | None) -> str:
    """A line on the end of a process, for a person."""
    ended = f"mlxdeck: the server ended with {described(status)}"
    return f"{ended}; it is started again in {pause_s:.0f} s" if pause_s is not None else ended


def run_supervised(command: Sequence[str], environ: Mapping[str, str], say: Say) -> int:
    """Run a server in the foreground, and again when a fault ends it; return its last status.

    What asks this process to end is passed on. For the main thread.
    """

    def start() -> subprocess.Popen[bytes]:
        # Only what is passed on reaches it: twice the same would hurry it.
        return subprocess.Popen(command, env=environ, start_new_session=True)

    restarts, processes = Restarts(), [start()]
    with _passing_on(processes) as asked:
        while True:
            status = processes[-1].wait()
            pause_s = None if asked.is_set() else restarts.pause_s(status, time.monotonic())
            if not asked.is_set() and is_fault(status):
                say(news(status, pause_s))
            if pause_s is None or asked.wait(pause_s):
                return status if status >= 0 else 128 - status
            processes.append(start())


@contextmanager
def _passing_on(processes: list[subprocess.Popen[bytes]]) -> Iterator[threading.Event]:
    """Pass signals that ask for an end on to the newest process; the event says that one came."""
    asked = threading.Event()

    def pass_on(number: int, _: FrameType | None) -> None:
        asked.set()
        processes[-1].send_signal(number)

    # Who was started with nohup stays when its terminal closes.
    numbers = [each for each in ASKED if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
