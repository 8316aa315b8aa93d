"""Arrays that grow while they are in use."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

GrowableArray: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_LARGE = 1 << 20


def grown(column: GrowableArray, n_used: int, n_needed: int) -> GrowableArray:
    """A longer copy of the column. The new part takes no memory until it is written.

    Few large steps: copying delays the threads that wait.
    """
    room = len(column) * (2 if len(column) >= _LARGE else 16)
    longer = np.zeros(max(room, n_needed), column.dtype)
    longer[:n_used] = column[:n_used]
    return longer


def unknown(values: GrowableArray) -> GrowableArray:
    """Which numbers of a column are not known: NaN, or less than 0 of whole ones."""
    return np.isnan(values) if values.dtype.kind == "f" else np.less(values, 0)


def summable(values: GrowableArray) -> GrowableArray:
    """The same numbers, with 0 for what is not known; changed in place, unless they are a view."""
    own = values if values.base is None else None
    if values.dtype.kind == "f":
        return np.nan_to_num(values)
    return np.asarray(np.maximum(values, 0, out=own))


def comparable(values: GrowableArray) -> GrowableArray:
    """The same numbers, with NaN for unknown ones."""
    return values if values.dtype.kind == "f" else np.where(values < 0, np.nan, values)
