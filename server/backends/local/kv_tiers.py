"""The KV states of one server, in RAM and on disk: opened, reported, emptied."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mlxdeck.server.backends.local.engine.api import States
from mlxdeck.server.backends.local.kv.blocks import BlockTree, TokenBlock
from mlxdeck.server.backends.local.kv.cooling import Cooling
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.eviction_policy import POLICIES
from mlxdeck.server.backends.local.kv.guarded_states import GuardedStates
from mlxdeck.server.backends.local.kv.integrity import check_integrity, logical_bytes
from mlxdeck.server.backends.local.kv.kv_cache import KVCache
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.system_prompts import SystemPrompts
from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.errors import EngineFailed
from mlxdeck.server.load import Load

log = logging.getLogger(__name__)

RAM, DISK = "prefix", "prefix_disk"

CHECK_EVERY_S = 60.0
"""While nobody asks anything."""

OnEngine = Callable[[Callable[[], object]], Awaitable[None]]


class KVTiers:
    """All of them. For the event loop."""

    def __init__(
        self,
        states: States,
        on_engine: OnEngine,
        disk: CacheDisk | None,
        *,
        policy: str,
        signature: str,
        eight_bits: bool = False,
    ) -> None:
        """Open them, without a disk that doesn't work. RAM's limit is set later, by `KVBudget`.

        `signature` separates states that are not interchangeable. With `eight_bits`, states that
        are quiet are quantised.
        """
        states = GuardedStates(states)
        ram = PrefixCache(states, 0, POLICIES[policy](), BlockTree(signature))
        self._cooling = Cooling(ram.tree, ram.leases, states) if eight_bits else None
        self._at_it: asyncio.Task[None] | None = None
        on_disk = self.systems = None
        if disk is not None:
            try:
                self.systems = SystemPrompts(disk.disk, signature)
                # Who wants exact states doesn't read what lies in 8 bits.
                files = f"{signature} 8-bit" if eight_bits else signature
                on_disk = DiskPrefixCache(
                    disk.disk, disk.folder, states, ram, files, disk.states_bytes
                )
            except (OSError, sqlite3.Error) as error:
                log.warning("no KV states on disk: %s", error)
                disk = self.systems = None
        self._disk = disk
        self._on_engine = on_engine
        self._checked_s = time.monotonic()
        self.n_faults = 0
        """What didn't add up when it was looked at."""
        self.states = KVCache(states, ram, on_disk, on_engine)

    def tick(self, *, is_idle: bool = False) -> None:
        """Quantise what is quiet, if that is wanted, then write the states that are due.

        When idle, look now and then whether all adds up.
        """
        if self._at_it is None:
            cooling = self._cooling
            if cooling is not None and (due := cooling.due()):
                self._at_it = asyncio.create_task(self._quantize(cooling, due))
            else:
                self._write_due()
        if is_idle and time.monotonic() - self._checked_s >= CHECK_EVERY_S:
            self._checked_s = time.monotonic()
            asyncio.get_running_loop().run_in_executor(None, self.check_integrity)

    def _write_due(self) -> None:
        if (on_disk := self.states.on_disk) is not None:
            on_disk.write_due()

    def check_integrity(self) -> list[str]:
        """What doesn't add up in the index of states; it is logged and counted. Any thread."""
        ram = self.states.ram
        found = check_integrity(ram.tree, ram.leases)
        for what in found:
            log.error("the index of KV states doesn't add up: %s", what)
        self.n_faults += len(found)
        return found

    async def _quantize(self, cooling: Cooling, due: Sequence[TokenBlock]) -> None:
        """Some blocks between two steps each, as other sequences go on."""
        left = [due]
        try:
            while left[-1]:
                await self._on_engine(lambda: left.append(cooling.quantize(left[-1])))
        except EngineFailed as error:
            log.warning("states stay exact: %s", error.message)
        finally:
            self._at_it = None
        self._write_due()

    async def write_all(self, within_s: float) -> None:
        """Write every state that waits, as far as there is time."""
        if (on_disk := self.states.on_disk) is None or self._disk is None:
            return
        on_disk.write_due(everything=True)
        with suppress(TimeoutError):
            # In order: this comes behind the states.
            written = asyncio.wrap_future(self._disk.disk.write(lambda _: None))
            await asyncio.wait_for(written, within_s)

    def report(self) -> dict[str, Any]:
        """Contents and statistics of each tier."""
        ram, on_disk, cost = self.states.ram, self.states.on_disk, self.states.s_per_token
        told = ram.stats.report(len(ram), ram.n_bytes, cost) | {"max_bytes": ram.max_bytes}
        told |= {"logical_bytes": logical_bytes(ram.tree)}
        told |= {"quantized_bytes": ram.tree.n_quantized_bytes}
        held = {"blocks": ram.tree.n_in_ram, "leases": ram.n_leases, "faults": self.n_faults}
        body = {RAM: told | held}
        if on_disk is not None and self._disk is not None:
            told = on_disk.stats.report(len(on_disk), on_disk.n_bytes, cost)
            told |= {"logical_bytes": on_disk.logical_bytes, "files": on_disk.n_files}
            waiting = {"waiting": len(ram.waiting), "waiting_bytes": ram.waiting.n_bytes}
            body[DISK] = told | waiting | {"given_up": ram.unwritten} | self._disk.report()
        return body

    def counted(self, load: Load) -> Load:
        """The same with what RAM holds."""
        ram = self.states.ram
        return replace(
            load,
            prefix_entries=len(ram),
            prefix_bytes=ram.n_bytes,
            prefix_quantized_bytes=ram.tree.n_quantized_bytes,
            prefix_limit_bytes=ram.max_bytes,
        )

    async def clear(self, tier: str) -> int:
        """Empty one; return how many states it held."""
        if tier == DISK and self.states.on_disk is not None:
            return self.states.on_disk.clear()
        n_cleared: list[int] = []
        await self._on_engine(lambda: n_cleared.append(self.states.ram.clear()))
        return sum(n_cleared)

    def flush(self) -> None:
        """Write the remaining states. The engine has ended."""
        if (on_disk := self.states.on_disk) is not None:
            on_disk.write_due(everything=True)
