"""Texts by number, for columns in which they repeat."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set
from typing import Protocol

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.columns.record_batch import Texts

MAX_PATTERNS = 16
"""So many are remembered with their texts: those of the filter in force, and those typed last."""


class TextTest(Hashable, Protocol):
    """What is true of some texts."""

    def among(self, texts: Sequence[str]) -> list[bool]:
        """For each of some texts in lower case whether it is true of it."""


class StringTable:
    """Texts by number; 0 is the empty one."""

    def __init__(self) -> None:
        self._numbers = {"": 0}
        self._texts = [""]
        self._held: dict[str, set[int]] = {}
        self._lowered: list[str] = []
        """Made when a text is looked for."""
        self._matching: dict[TextTest, GrowableArray] = {}
        """By pattern, for each text that it was tried on."""

    def number(self, text: str) -> int:
        """The number of a text, a new one if need be."""
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number

    def numbers(self, texts: Texts, column: str = "") -> GrowableArray:
        """The numbers of some texts; that they are in a named column is remembered."""
        own: GrowableArray = np.array([self.number(text) for text in texts.distinct], np.int32)
        if column:
            self._held.setdefault(column, set()).update(own.tolist())
        return own[texts.places] if len(own) else own

    def held(self, column: str) -> Set[int]:
        """The numbers of all texts that were in a column whose name was given with them."""
        return self._held.get(column, set())

    def texts(self, numbers: GrowableArray) -> GrowableArray:
        """The texts of some numbers."""
        return np.array(self._texts, object)[numbers]

    def matching(self, pattern: TextTest) -> GrowableArray:
        """For each text whether a pattern is true of it. Each text is tried once."""
        known = self._matching.pop(pattern, np.zeros(0, bool))
        if len(known) < len(self._texts):
            self._lowered += [text.lower() for text in self._texts[len(self._lowered) :]]
            more = pattern.among(self._lowered[len(known) :])
            known = np.concatenate([known, np.array(more, bool)])
        # The patterns used last are at the end.
        self._matching[pattern] = known
        if len(self._matching) > MAX_PATTERNS:
            del self._matching[next(iter(self._matching))]
        return known

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def __len__(self) -> int:
        return len(self._texts)
