"""Changes that make a history readable for the model, for telemetry: names and counts."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from mlxdeck.server.errors import BadRequest

_MAX_NOTES = 24
_MAX_KIND = 48
_NO_WORD = re.compile(r"[^A-Za-z0-9_.-]")

Verb = Literal["told", "read", "replaced", "left_out", "repaired", "kept_raw", "matched"]


class Notes:
    """Counts changes by kind of block. Clients choose kinds, so their number is bounded."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.unsupported: tuple[str, str] | None = None
        """Path and reason of the first part that a model of text can't take."""

    def add(self, verb: Verb, kind: str) -> None:
        """A block of that kind was turned into text, replaced, left out, …"""
        name = f"{verb} {_NO_WORD.sub('_', kind[:_MAX_KIND])}"
        if name not in self._counts and len(self._counts) >= _MAX_NOTES:
            name = f"{verb} other"
        self._counts[name] += 1

    def refuse(self, error: BadRequest) -> None:
        """A backend that can't take this has to refuse the request."""
        self.unsupported = self.unsupported or (error.path, error.reason)

    def all(self) -> tuple[str, ...]:
        """As `told web_search_tool_result 2`, in order of first use."""
        return tuple(f"{name} {count}" for name, count in self._counts.items())
