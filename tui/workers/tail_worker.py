"""The reading thread: follows streams and posts new data. Touches no widget and no store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from textual.app import App
from textual.worker import Worker

from mlxdeck.telemetry.read.local_processes import LocalProcesses
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.store.process_lives import SILENT_S
from mlxdeck.tui.messages import BatchArrived, SourceChanged
from mlxdeck.tui.state.context import Context

POLL_S = 0.1
BUSY_POLL_S = 0.03
"""While lines come."""
LOOK_S = 0.5
"""So often folders are looked through for new files."""
CHUNK_BYTES = 512 << 10
"""So much is taken in between two looks at the keyboard: a few milliseconds of work."""
MAX_QUEUED_MESSAGES = 4
"""The thread waits while the application is behind by more than this."""
PROGRESS_STEPS = 50
ASK_S = 0.5
"""Between two questions whether servers run."""
OLDER_BYTES = 128 << 20
"""Of the streams before the newest: what was lost with a server is seen after its restart."""
SWITCH_S = 0.001
"""Switch interval in seconds. Python's default of 5 ms slows down this thread and the drawing."""


def follow(app: App[None], context: Context, worker: Worker[None], *, whole_folders: bool) -> None:
    """Read until the worker is cancelled: a replay from its start on, else the newest first."""
    newest_first = not context.clock.replay
    tail = Tail(
        context.places,
        whole_folders=whole_folders,
        newest_first=newest_first,
        older_bytes=OLDER_BYTES,
    )
    processes = LocalProcesses()
    sys.setswitchinterval(SWITCH_S)
    report = _Report(tail, processes if newest_first else None, app.post_message)
    look_at_s = 0.0
    while not worker.is_cancelled:
        found, looks = False, time.monotonic() >= look_at_s
        if looks:
            look_at_s = time.monotonic() + LOOK_S
        for batch in map(processes.note, tail.poll(CHUNK_BYTES, looks=looks)):
            found = True
            report.tell(comes=True)
            app.post_message(BatchArrived(batch))
            while app.message_queue_size > MAX_QUEUED_MESSAGES and not worker.is_cancelled:
                time.sleep(POLL_S / 100)
            if worker.is_cancelled:
                break
        report.tell()
        if not report.loading:
            time.sleep(BUSY_POLL_S if found else POLL_S)
    tail.close()


class _Report:
    """Posts the followed files, their problems and the progress, each time these change."""

    def __init__(
        self, tail: Tail, processes: LocalProcesses | None, post: Callable[[SourceChanged], object]
    ) -> None:
        """Of a replay, no processes are asked for."""
        self._tail = tail
        self._processes = processes
        self._gone: list[tuple[int, float]] = []
        self._asked_s = -ASK_S
        self._post = post
        self._told: object = None
        self._most_bytes = 0

    @property
    def loading(self) -> bool:
        """Whether there is much that has not been read yet."""
        return self._most_bytes > 0

    def tell(self, *, comes: bool = False) -> None:
        """`comes`: the last batch that was read is posted after this."""
        tail, left_bytes = self._tail, self._tail.unread_bytes
        if left_bytes > CHUNK_BYTES:
            self._most_bytes = max(self._most_bytes, left_bytes)
        elif not comes:
            self._most_bytes = 0
        # Nobody may take a part for all of it.
        loaded = min(1 - left_bytes / self._most_bytes, 0.99) if self._most_bytes else 1.0
        steps = int(loaded * PROGRESS_STEPS)
        self._ask()
        rest = (tail.pending, tail.left, self._gone)
        state = (tail.following, tail.n_bad, tail.refused, tail.notes, *rest, steps)
        if state != self._told:
            self._told = state
            following = [str(path) for path in tail.following]
            bad = tuple(tail.bad)
            notes = tuple(tail.notes)
            told = (following, tail.n_bad, bad, tail.refused, loaded, notes, *rest)
            self._post(SourceChanged(*told))

    def _ask(self) -> None:
        now_s = time.monotonic()
        if self._processes is not None and now_s - self._asked_s >= ASK_S:
            self._asked_s = now_s
            self._gone = self._processes.gone(time.time(), SILENT_S)
