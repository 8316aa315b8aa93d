"""The reading thread: follows streams and posts what it finds. Touches no widget and no store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from textual.app import App
from textual.worker import Worker

from mlxdeck.telemetry.tail import Tail
from mlxdeck.tui.messages import BatchArrived, SourceChanged

POLL_S = 0.15
CHUNK_BYTES = 256 << 10
"""So much is taken in between two looks at the keyboard: a few milliseconds of work."""
MAX_QUEUED_MESSAGES = 2
"""The thread waits while the application is behind by more than this."""
PROGRESS_STEPS = 50


def follow(
    app: App[None], paths: Sequence[Path], worker: Worker[None], *, whole_folders: bool
) -> None:
    """Read until the worker is cancelled: a replay from its start on, else the newest first."""
    tail = Tail(paths, whole_folders=whole_folders, newest_first=not whole_folders)
    before, most_bytes = None, 0
    while not worker.is_cancelled:
        found = False
        for batch in tail.poll(CHUNK_BYTES):
            found = True
            app.post_message(BatchArrived(batch))
            while app.message_queue_size > MAX_QUEUED_MESSAGES and not worker.is_cancelled:
                time.sleep(POLL_S / 100)
            if worker.is_cancelled:
                break
        left_bytes = tail.unread_bytes
        most_bytes = max(most_bytes, left_bytes) if left_bytes > CHUNK_BYTES else 0
        loaded = 1 - left_bytes / most_bytes if most_bytes else 1.0
        state = (tail.following, tail.n_bad, tail.refused, int(loaded * PROGRESS_STEPS))
        if state != before:
            before = state
            following = [str(path) for path in tail.following]
            bad = tuple(tail.bad)
            app.post_message(SourceChanged(following, tail.n_bad, bad, tail.refused, loaded))
        if not found:
            time.sleep(POLL_S)
    tail.close()
