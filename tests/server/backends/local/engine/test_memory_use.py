"""What is left for KV caches, on devices of made-up sizes."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.hardware.device import Device
from mlxdeck.server.backends.local.engine.hardware.memory_use import SPARE_SHARE, MemoryUse
from mlxdeck.server.process_memory import FOOTPRINT_AT, footprint_bytes

GB = 1_000_000_000
MAC = Device("metal", "Apple M4 Max", "0.32", model_bytes=48 * GB, memory_bytes=64 * GB)
LINUX = Device("cpu", "x86", "0.32", model_bytes=20 * GB, memory_bytes=32 * GB)
SPARE = int(SPARE_SHARE * 48 * GB)


@pytest.mark.parametrize(
    ("active", "buffers", "footprint", "free"),
    [
        (20, 0, 0, 28),  # The system doesn't say.
        (20, 0, 22, 26),  # Python and the tokenizer count too.
        (20, 5, 27, 26),  # Buffers that MLX uses again are free.
        (20, 0, 19, 28),  # What is wired is never less than what MLX holds.
        (47, 0, 60, 0),
    ],
)
def test_on_metal_the_wired_limit_and_the_footprint_count(
    active: int, buffers: int, footprint: int, free: int
) -> None:
    """The limit is the GPU's, and what is used of it is what the system itself counts."""
    use = MemoryUse(MAC, active * GB, buffers * GB, footprint * GB)
    assert use.free_bytes == max(0, free * GB - SPARE)
    assert use.room(18 * GB).most_bytes == 30 * GB - SPARE
    assert use.room(18 * GB).free_bytes == use.free_bytes
    assert use.room(18 * GB).is_own


def test_elsewhere_free_memory_counts() -> None:
    """Whatever the process itself holds by now."""
    use = MemoryUse(LINUX, 5 * GB, 1 * GB)
    assert use.free_bytes == 21 * GB - 1 * GB
    assert use.room(2 * GB).most_bytes == 29 * GB
    assert not use.room(2 * GB).is_own


def test_the_footprint_is_read_where_the_system_tells_it() -> None:
    """By libproc's structure; where there is no such library, or it fails, nothing is known."""

    class Library:
        status = 0

        def proc_pid_rusage(self, pid: int, flavor: int, words: Any) -> int:
            """Fill in the structure as macOS does."""
            assert pid > 0 and flavor == 2
            ctypes.cast(words, ctypes.POINTER(ctypes.c_uint64))[FOOTPRINT_AT] = 123
            return self.status

    library: Any = Library()
    assert footprint_bytes(lambda: library) == 123
    library.status = -1
    assert footprint_bytes(lambda: library) == 0

    def missing() -> ctypes.CDLL:
        raise OSError("no such library")

    assert footprint_bytes(missing) == 0
