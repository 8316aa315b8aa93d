"""How much memory is left for KV caches on this machine. Measured anew; values in, values out.

On Metal the limit is what the GPU may keep wired. Against it count MLX's own buffers, and the
footprint of the process, which is what the system itself holds against it. Resident memory counts
neither compressed pages nor the GPU's.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import mlx.core as mx

from mlxdeck.server.backends.local.engine.api import Room
from mlxdeck.server.backends.local.engine.hardware.device import Device, device, free_bytes
from mlxdeck.server.process_memory import footprint_bytes

SPARE_SHARE = 1 / 32
"""Of the whole: what a pass needs beside what it reads, and what the reckoning leaves out."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a device has, and what is used of it by now."""

    device: Device
    active_bytes: int
    """MLX's arrays."""
    buffer_bytes: int = 0
    """What MLX keeps of freed ones, to use it again."""
    footprint_bytes: int = 0
    """All that the system holds against this process; 0 if it doesn't say."""

    @property
    def _is_metal(self) -> bool:
        return self.device.kind == "metal"

    @property
    def _whole_bytes(self) -> int:
        return self.device.model_bytes if self._is_metal else self.device.memory_bytes

    @property
    def free_bytes(self) -> int:
        """Free now. Buffers that MLX uses again are, though the system counts them."""
        if not self._is_metal:
            # What the system can give is measured already, without those buffers.
            left = self.device.model_bytes + self.buffer_bytes
        else:
            used = max(self.active_bytes, self.footprint_bytes - self.buffer_bytes)
            left = self.device.model_bytes - used
        return max(0, left - int(SPARE_SHARE * self._whole_bytes))

    def room(self, model_bytes: int) -> Room:
        """For KV caches beside a model of so many bytes."""
        whole = int((1 - SPARE_SHARE) * self._whole_bytes)
        spare = int(SPARE_SHARE * self._whole_bytes)
        most = max(0, whole - model_bytes)
        return Room(self.free_bytes, most, spare, is_own=self._is_metal)


def memory_use() -> MemoryUse:
    """Of this process, now. Engine thread."""
    found = _device()
    if found.kind != "metal":
        found = replace(found, model_bytes=free_bytes() or found.memory_bytes)
    active, buffers = int(mx.get_active_memory()), int(mx.get_cache_memory())
    return MemoryUse(found, active, buffers, footprint_bytes())


def memory_limit_bytes() -> int:
    """What models and their states may take at most; it doesn't change. Any thread."""
    found = _device()
    return found.model_bytes if found.kind == "metal" else found.memory_bytes


_device = functools.cache(device)
"""Its size doesn't change, and to ask for it takes longer than all the rest."""
