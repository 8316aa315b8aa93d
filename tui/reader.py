"""The reading thread: follows streams and posts what it finds. Touches no widget and no store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from textual.app import App
from textual.worker import Worker

from mlxdeck.telemetry.tail import Tail
from mlxdeck.tui.messages import RecordsArrived, SourceChanged

POLL_S = 0.15
CHUNK_BYTES = 128 << 10
"""So much is taken in between two looks at the keyboard: about ten milliseconds of work."""
MAX_QUEUED_MESSAGES = 2
"""The thread waits while the application is behind by more than this."""


def follow(
    app: App[None], paths: Sequence[Path], worker: Worker[None], *, whole_folders: bool
) -> None:
    """Read until the worker is cancelled."""
    tail, before = Tail(paths, whole_folders=whole_folders), None
    while not worker.is_cancelled:
        records = tail.poll(CHUNK_BYTES)
        following = [str(path) for path in tail.following]
        last_bad = tail.bad[-1].reason if tail.bad else ""
        source = SourceChanged(following, tail.n_bad, last_bad, tail.refused)
        state = (source.following, source.n_bad, source.refused)
        if state != before:
            before = state
            app.post_message(source)
        if records:
            app.post_message(RecordsArrived(records))
        while app.message_queue_size > MAX_QUEUED_MESSAGES and not worker.is_cancelled:
            time.sleep(POLL_S / 100)
        if not records:
            time.sleep(POLL_S)
    tail.close()
