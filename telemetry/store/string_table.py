"""Texts by number, for columns in which they repeat."""

from __future__ import annotations

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.columns.record_batch import Texts


class StringTable:
    """Texts by number; 0 is the empty one."""

    def __init__(self) -> None:
        self._numbers = {"": 0}
        self._texts = [""]

    def number(self, text: str) -> int:
        """The number of a text, a new one if need be."""
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number

    def numbers(self, texts: Texts) -> GrowableArray:
        """The numbers of a column of texts."""
        own: GrowableArray = np.array([self.number(text) for text in texts.distinct], np.int32)
        return own[texts.places] if len(own) else own

    def texts(self, numbers: GrowableArray) -> GrowableArray:
        """The texts of some numbers."""
        return np.array(self._texts, object)[numbers]

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def __len__(self) -> int:
        return len(self._texts)
