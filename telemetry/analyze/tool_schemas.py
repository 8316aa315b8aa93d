"""How many tokens the description of each tool takes in a prompt: read again from the files."""

from __future__ import annotations

import numpy as np

from mlxdeck.telemetry.analyze.raw_lines import lines_of
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import EXACT
from mlxdeck.telemetry.store.store import Store

MAX_LOOKED_AT = 2_000
"""The newest requests among which sets of tools are looked for."""
MAX_READ = 4
"""Requests that are read again at a time."""


class ToolSchemas:
    """Remembers what it has read, by the hash of the tools that a request has."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tokens: dict[int, dict[str, int]] = {}

    def tokens(self, rows: Array) -> dict[str, int]:
        """By the tool's name, in the prompts of some requests; the newest set counts."""
        rows = rows[-MAX_LOOKED_AT:]
        numbers = self._store.column("tools_hash")[rows]
        computed = self._store.column("cache")[rows] != EXACT
        found: dict[str, int] = {}
        n_read = 0
        for number in np.unique(numbers[numbers > 0]).tolist():
            own = rows[(numbers == number) & computed]
            if number not in self._tokens and len(own) and n_read < MAX_READ:
                n_read += 1
                self._tokens[number] = _told(self._store, int(own[-1]))
            found |= self._tokens.get(number, {})
        return found


def _told(store: Store, row: int) -> dict[str, int]:
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    for line in lines_of(store, row):
        attrs = codec.decode(line).attrs
        if isinstance(attrs, t.RequestStart):
            names = attrs.tool_names
        elif isinstance(attrs, t.CacheLookup) and attrs.tool_tokens:
            counts = attrs.tool_tokens
    return {name: n for name, n in zip(names, counts, strict=False) if n}
