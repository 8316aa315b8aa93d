"""Memory that was freed, given back to the system.

On Linux, arrays lie on the heap of the C library. It keeps what is freed for later: of a model of
half a gigabyte, more than 400 MB. On a Mac, MLX's own buffers go back by `mx.clear_cache`.
"""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Have the C library return what it holds for later; does nothing where it can't."""
    if sys.platform != "linux":
        return
    # https://man7.org/linux/man-pages/man3/malloc_trim.3.html; of glibc only.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
