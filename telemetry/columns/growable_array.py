"""Arrays that get longer while they are used."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

GrowableArray: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_LARGE = 1 << 20


def grown(column: GrowableArray, n_used: int, n_needed: int) -> GrowableArray:
    """The same with room for more, which takes no memory before something is written there.

    Few steps, each far: copying holds up whoever waits.
    """
    room = len(column) * (2 if len(column) >= _LARGE else 16)
    longer = np.zeros(max(room, n_needed), column.dtype)
    longer[:n_used] = column[:n_used]
    return longer
