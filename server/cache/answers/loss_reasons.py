"""Why answers are not here any more: of the last ones that went, or were not taken."""

from __future__ import annotations

from collections import OrderedDict

MAX_KEYS = 10_000


class LossReasons:
    """Reasons by key. For the event loop."""

    def __init__(self) -> None:
        self._reasons: OrderedDict[str, str] = OrderedDict()

    def add(self, key: str, reason: str) -> None:
        """Note why an answer is not here, giving up the oldest note for it."""
        self._reasons[key] = reason
        self._reasons.move_to_end(key)
        while len(self._reasons) > MAX_KEYS:
            self._reasons.popitem(last=False)

    def back(self, key: str) -> None:
        """The answer is here again."""
        self._reasons.pop(key, None)

    def why(self, key: str) -> str:
        """`evicted`, `expired` or `not_kept`; empty if it never was here, or that is long ago."""
        return self._reasons.get(key, "")
