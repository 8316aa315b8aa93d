"""Arrays that grow while they are in use."""

from __future__ import annotations

import mmap
from typing import Any, TypeAlias

import numpy as np

GrowableArray: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_LARGE = 1 << 20
_MAPPED_BYTES = 1 << 18
_OWN_PAGES = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_WIDER = {
    np.dtype(np.uint8): (np.uint16, 2**8),
    np.dtype(np.uint16): (np.int32, 2**16),
    np.dtype(np.uint32): (np.int64, 2**32),
}
"""By type: the next wider one, and the first number that needs it."""


def zeros(n: int, kind: Any) -> GrowableArray:
    """Zeros that take no memory until they are written, and give it back with the array.

    A large array has pages of its own: `malloc` clears what it uses again, and keeps what is freed.
    """
    n_bytes = n * np.dtype(kind).itemsize
    if n_bytes < _MAPPED_BYTES:
        return np.zeros(n, kind)
    return np.frombuffer(mmap.mmap(-1, n_bytes, flags=_OWN_PAGES), kind)


def grown(column: GrowableArray, n_used: int, n_needed: int) -> GrowableArray:
    """A longer copy of the column. The new part takes no memory until it is written.

    Few large steps: copying delays the threads that wait.
    """
    room = len(column) * (2 if len(column) >= _LARGE else 16)
    longer = zeros(max(room, n_needed), column.dtype)
    longer[:n_used] = column[:n_used]
    return longer


def wide_enough(column: GrowableArray, n_used: int, highest: float) -> GrowableArray:
    """The column if it can hold so high a number, else a copy of a wider type.

    Only columns of unsigned numbers become wider.
    """
    kind = column.dtype
    while kind in _WIDER and highest >= _WIDER[kind][1]:
        kind = np.dtype(_WIDER[kind][0])
    if kind == column.dtype:
        return column
    wider = zeros(len(column), kind)
    wider[:n_used] = column[:n_used]
    return wider


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
