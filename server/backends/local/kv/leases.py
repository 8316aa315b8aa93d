"""Leases on paths of the index: what is leased stays in RAM.

A block can't be evicted while something in RAM lies behind it, so that a lease only has to hold the
last block of its path, and its checkpoint.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.engine.api import State
from mlxdeck.server.backends.local.kv.blocks import BlockTree, Checkpoint, TokenBlock


class Lease:
    """The longest known prefix of a prompt, protected from eviction until `release`."""

    __slots__ = ("_leases", "block", "checkpoint", "n_cached", "state")

    def __init__(
        self, leases: Leases, block: TokenBlock | None, checkpoint: Checkpoint | None, n_cached: int
    ) -> None:
        self.n_cached = n_cached
        """0 when nothing is known."""
        self.state: State | None = None
        """Holds exactly those tokens. The engine copies what it changes."""
        self.block = block
        """The last one of its path; only `Leases` changes it."""
        self.checkpoint = checkpoint
        self._leases = leases

    def move(self, block: TokenBlock) -> None:
        """Hold a longer path instead."""
        self._leases.move(self, block)

    def release(self) -> None:
        """Give it back; any thread, any number of times."""
        self._leases.release(self)


class Leases:
    """All that are out. Any thread."""

    def __init__(self, tree: BlockTree) -> None:
        self._lock = tree.lock
        self._out: set[Lease] = set()

    def __len__(self) -> int:
        return len(self._out)

    def nothing(self) -> Lease:
        """The lease of who finds nothing."""
        return Lease(self, None, None, 0)

    def take(
        self, block: TokenBlock, checkpoint: Checkpoint | None = None, n_cached: int = 0
    ) -> Lease:
        """Hold a path that is in RAM, as is known under the lock."""
        lease = Lease(self, block, checkpoint, n_cached)
        with self._lock:
            self._out.add(lease)
            block.n_leases += 1
            if checkpoint is not None:
                checkpoint.n_leases += 1
        return lease

    def move(self, lease: Lease, block: TokenBlock) -> None:
        """Hold another block, if it still holds one."""
        with self._lock:
            if lease.block is not None:
                lease.block.n_leases -= 1
                block.n_leases += 1
                lease.block = block

    def release(self, lease: Lease) -> None:
        """End a lease, once: the engine's thread and the event loop may both want to."""
        with self._lock:
            block, lease.block = lease.block, None
            checkpoint, lease.checkpoint = lease.checkpoint, None
            self._out.discard(lease)
            if block is not None:
                block.n_leases -= 1
            if checkpoint is not None:
                checkpoint.n_leases -= 1

    def held(self) -> set[int]:
        """The ids of all blocks of leased paths, not only of the last ones."""
        with self._lock:
            ends = {lease.block for lease in self._out if lease.block is not None}
            return {id(block) for end in ends for block in end.path()}

    def counts(self) -> dict[int, int]:
        """How many leases each part should count, by its id."""
        found: dict[int, int] = {}
        with self._lock:
            for lease in self._out:
                for part in (lease.block, lease.checkpoint):
                    if part is not None:
                        found[id(part)] = found.get(id(part), 0) + 1
        return found
