"""Which requests of some recordings a command is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.query.filters import parse
from mlxdeck.telemetry.read.content_search import Search
from mlxdeck.telemetry.schema.figures import LOST
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


def told_ends(store: Store, rows: Array) -> Array:
    """Of requests that ended, those whose server said so; others were lost with their server."""
    return np.asarray(rows[store.column("outcome")[rows] != LOST])


class Selection:
    """A filter as a command takes it, and its searches through captured content."""

    def __init__(self, where: str) -> None:
        """Raises `ValueError` for a filter that can't be understood."""
        self._where = where
        self.filter = parse(where)
        self._searches = {text: Search(text) for text in self.filter.said}

    def again(self) -> Selection:
        """The same for other files."""
        return Selection(self._where)

    def search(self, store: Store, files: Sequence[Path]) -> None:
        """Search files to their present end for the filter's texts; later, what was added."""
        for text, each in self._searches.items():
            more = True
            while more:
                ids, more = each.look(files)
                store.note_said(text, ids)
