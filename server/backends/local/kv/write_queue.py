"""The states in RAM that wait to be written to disk. What waits may still be evicted."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from mlxdeck.server.backends.local.kv.blocks import (
    BlockTree,
    Checkpoint,
    KVPart,
    TokenBlock,
    in_ram,
    path_of,
)
from mlxdeck.server.backends.local.kv.leases import Lease, Leases

QUIET_S = 3.0
"""So long a conversation has to be quiet until its state is written."""
MAX_WAITING = 256
"""Where more come, the oldest don't wait to be quiet: they would be given up first."""


class WriteQueue:
    """Ends of paths, in the order of their time. Safe from any thread."""

    def __init__(self, tree: BlockTree, leases: Leases) -> None:
        self._lock = tree.lock
        self._leases = leases
        self._due: set[KVPart] = set()

    def put(self, path: Sequence[TokenBlock], checkpoint: Checkpoint | None) -> None:
        """Have a state written, in the place of those that it begins with."""
        with self._lock:
            for block in path:
                block.due_s = math.inf
            end: KVPart = checkpoint or path[-1]
            if unwritten(path[-1], checkpoint):
                end.due_s = time.monotonic() + QUIET_S
                self._due.add(end)

    def _waiting(self) -> list[KVPart]:
        # What has left RAM, or belongs to a longer state by now, doesn't wait any more.
        self._due = {part for part in self._due if part.due_s < math.inf}
        return sorted(self._due, key=lambda part: part.due_s)

    def n_due(self, *, everything: bool = False) -> int:
        """How many states are to be written by now, or at all."""
        with self._lock:
            waiting = self._waiting()
            until_s = _until_s(waiting, everything=everything)
            return sum(part.due_s <= until_s for part in waiting)

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting())

    @property
    def n_bytes(self) -> int:
        """Bytes that wait, of blocks and checkpoints."""
        with self._lock:
            ends = [_end(part) for part in self._waiting()]
            return sum(part.n_bytes for part in {p for end in ends for p in unwritten(*end)})

    def lease_due(self, *, everything: bool = False) -> Lease | None:
        """Lease the state that has waited longest; it doesn't wait any more."""
        with self._lock:
            waiting = self._waiting()
            if not waiting or waiting[0].due_s > _until_s(waiting, everything=everything):
                return None
            waiting[0].due_s = math.inf
            block, checkpoint = _end(waiting[0])
            end_tokens = checkpoint.end_tokens if checkpoint else block.end_tokens
            return self._leases.take(block, checkpoint, end_tokens)

    def forget(self) -> None:
        """Write nothing of what waits."""
        with self._lock:
            for part in self._due:
                part.due_s = math.inf


def unwritten(block: TokenBlock, checkpoint: Checkpoint | None) -> list[KVPart]:
    """What of a state the disk lacks, from its first block on."""
    parts = [part for part in path_of(checkpoint or block) if part.place is None and in_ram(part)]
    # Its end may be on disk in a longer block.
    return [part for part in parts if part is not block or not _is_in_another(block)]


def _is_in_another(block: TokenBlock) -> bool:
    if block.parent is None:
        return False
    others = block.parent.children.values()
    return any(each.place is not None and each.tokens.startswith(block.tokens) for each in others)


def _end(part: KVPart) -> tuple[TokenBlock, Checkpoint | None]:
    if isinstance(part, Checkpoint):
        return part.block, part
    assert isinstance(part, TokenBlock)
    return part, None


def _until_s(waiting: Sequence[KVPart], *, everything: bool) -> float:
    return math.inf if everything or len(waiting) > MAX_WAITING else time.monotonic()
