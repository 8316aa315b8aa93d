"""Counts equal calls in one answer, to find a model that repeats itself."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(order="deterministic")
MAX_SAME = 2
"""Maximal number of equal calls in one answer; one more ends the answer."""


class Looped(Exception):
    """The answer has repeated a call too often; the events before this call stay valid."""


class RepeatedCalls:
    """The calls of an answer by name and arguments. Shared by all readers of the answer."""

    def __init__(self, *, watching: bool = True) -> None:
        self._watching = watching
        self._raises = True
        self._counts: Counter[bytes] = Counter()
        self._names: set[str] = set()

    def suspects(self, name: str) -> bool:
        """Whether the next call of a tool may be one too many, and has to be seen whole first."""
        return name in self._names

    def tried(self) -> RepeatedCalls:
        """A copy for text that may turn out to contain no calls.

        The copy only reports a call that is one too many. The later text decides whether it was a
        call.
        """
        copy = RepeatedCalls(watching=self._watching)
        copy._counts, copy._names, copy._raises = self._counts.copy(), self._names.copy(), False
        return copy

    def adopt(self, tried: RepeatedCalls) -> None:
        """Add the counts of a copy: its calls were real."""
        self._counts, self._names = tried._counts, tried._names

    def add(self, name: str, arguments: Any) -> bool:
        """Count a complete call; return whether it is one too many.

        Raises:
            Looped: It is one too many, and the text after it doesn't matter.
        """
        if not self._watching:
            return False
        call = hashlib.sha256(_encoded([name, arguments])).digest()
        self._counts[call] += 1
        if self._counts[call] == MAX_SAME:
            self._names.add(name)
        if self._counts[call] > MAX_SAME and self._raises:
            raise Looped
        return self._counts[call] > MAX_SAME


def _encoded(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    # Half a surrogate pair, or an integer of more than 64 bits.
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value, sort_keys=True).encode()
