"""Which requests of some recordings a command is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlxdeck.telemetry.analyze.report import Period, rows_of
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.query.filters import parse
from mlxdeck.telemetry.read.content_search import Search
from mlxdeck.telemetry.store.store import Store


def one_request(store: Store, begins: str) -> Array:
    """The row of a request, by the start of its id; with or without what all ids begin with.

    Raises:
        ValueError: Several ids begin like that.
    """
    tried = map(store.ids.starting_with, (begins, f"req_{begins}"))
    rows: list[int] = next(filter(None, tried), [])
    if len(rows) > 1:
        raise ValueError(f"{len(rows)} request ids begin with {begins}: give more of the id")
    return np.array(rows, np.int64)


def matching(store: Store, files: Sequence[Path], period: Period, where: str) -> Array:
    """The rows of requests that ended in a period and match a filter. Reads files for its texts.

    Raises:
        ValueError: The filter can't be understood.
    """
    wanted = parse(where)
    for text in wanted.said:
        search, more = Search(text), True
        while more:
            ids, more = search.look(files)
            store.note_said(text, ids)
    rows = rows_of(store, period)
    found: Array = rows[wanted.mask(store)[rows]]
    return found
