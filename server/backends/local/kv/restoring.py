"""Brings back into RAM what a prompt needs of the disk, and nothing that RAM has.

Bytes are read and checked on a thread of the disk's. The engine thread makes arrays of them, some
blocks at a time: between two of these times it does a step, so that streams keep their pace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from mlxdeck.server.backends.local.engine.api import PackedPart, StateDamaged, States
from mlxdeck.server.backends.local.kv.blocks import KVPart, TokenBlock
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.leases import Lease
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.runs import in_reads
from mlxdeck.server.cache.cache_stats import Counts
from mlxdeck.server.errors import EngineFailed

log = logging.getLogger(__name__)

OnEngine = Callable[[Callable[[], object]], Awaitable[None]]
"""Runs something on the engine thread, between two steps."""


class Restoring:
    """Of one model. For the event loop."""

    def __init__(
        self, states: States, ram: PrefixCache, on_disk: DiskPrefixCache, on_engine: OnEngine
    ) -> None:
        self._states = states
        self._ram = ram
        self._on_disk = on_disk
        self._on_engine = on_engine
        self._reading = asyncio.Lock()

    async def restore(
        self, tokens: Sequence[int], then: Callable[[], None], instead_of: Lease | None = None
    ) -> bool:
        """Return whether anything was restored; `then` runs on the engine thread right after that.

        A lease of less ends before anything is read, so that its blocks may make room.
        What has been restored stays when it fails or is cancelled.
        """
        if await self._on_disk.missing(tokens) is None:
            return False
        async with self._reading:
            # Another request may have brought it meanwhile.
            missing = await self._on_disk.missing(tokens)
            if missing is None:
                return False
            hold = self._ram.hold(missing.path)
            if instead_of is not None:
                instead_of.release()
            restored: list[KVPart] = []
            try:
                await self._in_reads(missing.parts, hold, restored)
                if restored:
                    await self._on_engine(then)
            except EngineFailed as error:
                # The prompt is computed instead.
                log.warning("a state is not restored: %s", error.message)
                self._on_disk.stats.evictions["failed"] += 1
                return False
            finally:
                hold.release()
            is_whole = len(restored) == len(missing.parts)
            n = missing.n_tokens if is_whole else 0
            self._on_disk.stats.add(Counts(is_whole, not is_whole, n, len(tokens)))
            self._on_disk.used(missing.path)
            return bool(restored)

    async def _in_reads(
        self, missing: Sequence[KVPart], hold: Lease, restored: list[KVPart]
    ) -> None:
        """Restore parts in order, up to one that can't be."""
        for parts in in_reads(missing):
            read = await self._on_disk.read(parts)
            n_wanted = len(restored) + len(parts)
            await self._on_engine(partial(self._build, parts, read, hold, restored))
            if len(read) < len(parts):
                self._on_disk.discard_part(parts[len(read)])
            if len(restored) < n_wanted:
                return

    def _build(
        self,
        parts: Sequence[KVPart],
        read: Sequence[PackedPart],
        hold: Lease,
        restored: list[KVPart],
    ) -> None:
        """Make arrays of what was read, up to what is none. Engine thread."""
        for part, packed in zip(parts, read, strict=False):
            if part.data is None:
                if not self._ram.make_room(memoryview(packed.buffers[0]).nbytes):
                    log.info("a state is not restored: there is no room for it")
                    return
                try:
                    made = self._states.restore(packed.about, packed.buffers[0])
                except StateDamaged as error:
                    log.warning("%s", error.message)
                    self._on_disk.discard_part(part)
                    return
                if not self._ram.put(part, made):
                    log.info("a state is not restored: it has been removed meanwhile")
                    return
            if isinstance(part, TokenBlock):
                hold.move(part)
            restored.append(part)
