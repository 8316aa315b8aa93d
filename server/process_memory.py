"""How much memory this process takes, as the system counts it."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable

RUSAGE_INFO_V2 = 2
"""Of `proc_pid_rusage` in macOS's libproc.h: from here on it tells the physical footprint."""
FOOTPRINT_AT, RUSAGE_WORDS = 9, 32
"""`ri_phys_footprint` is the tenth word of 8 bytes, behind a UUID of two and seven counters."""


def process_bytes() -> int:
    """The footprint on macOS, where resident memory leaves out what the GPU and compression hold.

    Elsewhere resident memory; its peak if the system reports only that.
    """
    if found := footprint_bytes():
        return found
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def footprint_bytes(library: Callable[[], ctypes.CDLL] | None = None) -> int:
    """What macOS holds against this process; 0 on other systems."""
    if library is None and sys.platform != "darwin":
        return 0
    try:
        found = (library or _libproc)()
        words = (ctypes.c_uint64 * RUSAGE_WORDS)()
        failed = found.proc_pid_rusage(os.getpid(), RUSAGE_INFO_V2, ctypes.byref(words))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else int(words[FOOTPRINT_AT])


@functools.cache
def _libproc() -> ctypes.CDLL:
    return ctypes.CDLL("/usr/lib/libproc.dylib")
