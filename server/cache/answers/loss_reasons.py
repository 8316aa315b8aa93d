"""Why answers are not here any more: of the last ones that went, or were not taken."""

from __future__ import annotations

import threading
from collections import OrderedDict

MAX_KEYS = 10_000


class LossReasons:
    """Reasons by key. Safe from any thread."""

    def __init__(self) -> None:
        self._reasons: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: str, reason: str) -> None:
        """Note why an answer is not here, giving up the oldest note for it."""
        with self._lock:
            self._reasons[key] = reason
            self._reasons.move_to_end(key)
            while len(self._reasons) > MAX_KEYS:
                self._reasons.popitem(last=False)

    def back(self, key: str) -> None:
        """The answer is here again."""
        with self._lock:
            self._reasons.pop(key, None)

    def why(self, key: str) -> str:
        """`evicted`, `expired`, `not_kept` or `model_changed`: another model's is here.

        Empty if it never was here, or that is long ago.
        """
        return self._reasons.get(key, "")
