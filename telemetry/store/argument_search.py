"""Which requests called a tool with arguments that hold a text, as far as calls are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.store.bounded_history import BoundedHistory, ToolCallRow
from mlxdeck.telemetry.store.string_table import TextTest

MAX_WORDS = 8
"""So many are remembered with what they found."""
_LENGTH_BYTES = {b"\xd9": 1, b"\xda": 2, b"\xdb": 4}
_KEY = b"gen_ai.tool.call.arguments"


class ArgumentSearch:
    """Looks at each call once for a word. For one thread."""

    def __init__(self, calls: BoundedHistory[ToolCallRow]) -> None:
        self._calls = calls
        self._found: dict[TextTest, tuple[int, GrowableArray]] = {}
        """How many calls were looked at, and the rows that they belong to."""

    def rows(self, pattern: TextTest, part: str) -> GrowableArray:
        """The rows of calls with arguments that a pattern is true of.

        With `part`, it is true of just the texts that hold this one, which is in lower case.
        """
        calls = self._calls
        n_known, rows = self._found.pop(pattern, (0, np.zeros(0, np.int64)))
        fresh = np.flatnonzero(calls.numbers >= n_known)
        if len(fresh):
            good = _matching(calls, fresh, pattern, part)
            rows, n_known = np.union1d(rows, good), int(calls.numbers.max()) + 1
        self._found[pattern] = (n_known, rows)
        if len(self._found) > MAX_WORDS:
            del self._found[next(iter(self._found))]
        return rows


def _matching(
    calls: BoundedHistory[ToolCallRow], places: GrowableArray, pattern: TextTest, part: str
) -> GrowableArray:
    if part and part.isascii():
        # Most calls need not be decoded, and of most it is enough to look at them as a whole.
        word = part.encode()
        packed: list[bytes] = calls.values[places].tolist()
        held = [word in each.lower() and word in _arguments(each) for each in packed]
        return _owners(calls, places, held)
    texts: Sequence[str] = [calls[at].call.arguments.lower() for at in places.tolist()]
    return _owners(calls, places, pattern.among(texts))


def _owners(
    calls: BoundedHistory[ToolCallRow], places: GrowableArray, good: list[bool]
) -> GrowableArray:
    found: GrowableArray = calls.owners[places][np.array(good, bool)]
    return found


def _arguments(packed: bytes) -> bytes:
    """The text of the last field of a call, as UTF-8 in lower case."""
    at = packed.find(_KEY)
    if at < 0:
        return b""
    begin = at + len(_KEY)
    head = packed[begin : begin + 1]
    # Behind the key is the kind of text, and for all but short ones 1, 2 or 4 bytes of length.
    return packed[begin + 1 + _LENGTH_BYTES.get(head, 0) :].lower()
