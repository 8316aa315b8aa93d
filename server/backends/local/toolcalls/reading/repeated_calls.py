"""Counts the calls of one answer that are the same: a model that goes round in circles."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

MAX_SAME = 2
"""So often a call may stand in one answer; one more ends it."""


class Looped(Exception):
    """The answer has made one call too often; what has been read of it before stays."""


class RepeatedCalls:
    """The calls so far, by name and arguments. Shared by all who read calls of one answer."""

    def __init__(self, *, watching: bool = True) -> None:
        self._watching = watching
        self._raises = True
        self._counts: Counter[str] = Counter()
        self._names: set[str] = set()

    def suspects(self, name: str) -> bool:
        """Whether the next call of a tool may be one too many, and has to be seen whole first."""
        return name in self._names

    def tried(self) -> RepeatedCalls:
        """A copy to count on where nobody knows yet whether what is read are calls.

        It only tells of one that is too many: what follows decides whether it was one.
        """
        copy = RepeatedCalls(watching=self._watching)
        copy._counts, copy._names, copy._raises = self._counts.copy(), self._names.copy(), False
        return copy

    def adopt(self, tried: RepeatedCalls) -> None:
        """Take over what a copy has counted: those were calls."""
        self._counts, self._names = tried._counts, tried._names

    def add(self, name: str, arguments: Any) -> bool:
        """Count a whole call; tell whether it is one too many.

        Raises:
            Looped: It is, and nothing that follows matters.
        """
        if not self._watching:
            return False
        call = json.dumps([name, arguments], sort_keys=True)
        self._counts[call] += 1
        if self._counts[call] == MAX_SAME:
            self._names.add(name)
        if self._counts[call] > MAX_SAME and self._raises:
            raise Looped
        return self._counts[call] > MAX_SAME
