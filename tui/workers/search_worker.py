"""The searching thread: searches captured content for texts. Touches no widget and no store."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from textual.app import App
from textual.worker import Worker

from mlxdeck.telemetry.read.content_search import Search
from mlxdeck.tui.messages import Searched, SearchedAll
from mlxdeck.tui.workers.tail_worker import POLL_S

TYPING_S = 0.3
"""While a text is typed, a search begins when so long no key has changed it."""
BREATH_S = 0.001
"""Between two chunks, so that keys are answered."""


def search(
    app: App[None],
    texts: Collection[str],
    paths: Callable[[], list[Path]],
    worker: Worker[None],
    after_s: float = 0.0,
) -> None:
    """Search for all of the texts until the worker is cancelled, also in new data.

    The search begins after a while, for a next key may ask for another text.
    """
    begin_s = time.monotonic() + after_s
    while not worker.is_cancelled and time.monotonic() < begin_s:
        time.sleep(POLL_S)
    searches, told = {text: Search(text) for text in texts}, False
    while not worker.is_cancelled:
        done = True
        for text, each in searches.items():
            found, more = each.look(paths())
            done &= not more
            if found and not worker.is_cancelled:
                app.post_message(Searched(text, found))
        if done and not told:
            told = True
            app.post_message(SearchedAll(texts))
        time.sleep(POLL_S if done else BREATH_S)
