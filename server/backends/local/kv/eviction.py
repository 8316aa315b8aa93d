"""Gives up the least useful ends of paths, so that the index keeps to its bytes.

Only what nobody has leased and nothing relies on may go. A block that holds the end of a system
prompt and more first shrinks to that end.
"""

from __future__ import annotations

import heapq
import logging
import math
import time
from collections.abc import Callable, Sequence

from mlxdeck.server.backends.local.engine.api import States
from mlxdeck.server.backends.local.kv.blocks import (
    BlockTree,
    Checkpoint,
    KVPart,
    TokenBlock,
    in_ram,
)
from mlxdeck.server.backends.local.kv.eviction_policy import Policy, Use
from mlxdeck.server.backends.local.kv.leases import Lease, Leases
from mlxdeck.server.backends.local.kv.token_bytes import first, n_tokens
from mlxdeck.server.cache.cache_stats import CacheStats
from mlxdeck.server.errors import EngineFailed

log = logging.getLogger(__name__)


class Eviction:
    """Of one index. Parts leave RAM on the engine thread only, but for those that are lost."""

    def __init__(
        self, tree: BlockTree, states: States, policy: Policy, stats: CacheStats, leases: Leases
    ) -> None:
        self._tree = tree
        self._leases = leases
        self._states = states
        self._policy = policy
        self._stats = stats
        self._now = 0
        self.unwritten = 0
        """States that were given up before the disk had them."""

    def touch(
        self, path: Sequence[TokenBlock], checkpoint: Checkpoint | None, *, is_use: bool = False
    ) -> None:
        """These are stored, or used. Under the lock."""
        self._now += 1
        now_s = time.monotonic()
        for block in path:
            block.used_s = now_s
            block.n_uses += is_use
            block.last_use = self._now
            span = (block.start_tokens, n_tokens(block.tokens))
            block.rank = self._policy.rank(Use(self._now, block.n_uses, *span, block.n_bytes))
        if checkpoint is not None:
            checkpoint.n_uses += is_use
            checkpoint.last_use = self._now
            end = checkpoint.end_tokens
            others = (n for block in path for n in block.checkpoints if n < end)
            start = max(others, default=0)
            use = Use(self._now, checkpoint.n_uses, start, end - start, checkpoint.n_bytes)
            checkpoint.rank = self._policy.rank(use)

    def give_up(self, is_enough: Callable[[], bool]) -> None:
        """Free the memory of the lowest ends until it is enough, or the others are in use."""
        candidates: list[tuple[float, int, int, KVPart]] | None = None
        while True:
            with self._tree.lock:
                if is_enough():
                    return
                if candidates is None:
                    ends = enumerate(self._tree.parts())
                    # Of equal ranks, the one goes first that was used longest ago.
                    candidates = [
                        (end.rank, end.last_use, n, end) for n, end in ends if is_idle_end(end)
                    ]
                    heapq.heapify(candidates)
                if not candidates:
                    return
                rank, _, n, victim = heapq.heappop(candidates)
                self._policy.evicted(rank)
                n_left = self._worth_keeping(victim)
                if not n_left:
                    if below := self._evict(victim):
                        heapq.heappush(candidates, (below.rank, below.last_use, -1 - n, below))
                    continue
                assert isinstance(victim, TokenBlock)
                hold = self._leases.take(victim)
            self._shrink(victim, n_left, hold)
            candidates = None

    def _evict(self, victim: KVPart) -> KVPart | None:
        """Drop a part; return what is the end of its path now, if that may go too."""
        below = victim.block if isinstance(victim, Checkpoint) else _parent(victim)
        self.unwritten += victim.due_s < math.inf
        self._stats.evictions["room"] += 1
        self._tree.drop(victim)
        below = self.prune(below)
        return below if is_idle_end(below) else None

    def prune(self, block: TokenBlock) -> TokenBlock:
        """Drop what is of no use without a checkpoint behind it; return what it lies on."""
        with self._tree.lock:
            while not block.is_cuttable and is_idle_end(block):
                parent = _parent(block)
                self._tree.drop(block)
                block = parent
            return block

    def _worth_keeping(self, victim: KVPart) -> int:
        """How many tokens of a block are to be kept, as the end of a system prompt."""
        if not isinstance(victim, TokenBlock) or not victim.is_cuttable:
            return 0
        shared = first(victim.tokens, victim.shared_tokens)
        if not 0 < len(shared) < len(victim.tokens):
            return 0
        siblings = _parent(victim).children.values()
        n_holding = sum(in_ram(each) and each.tokens.startswith(shared) for each in siblings)
        return victim.shared_tokens if n_holding == 1 else 0

    def _shrink(self, victim: TokenBlock, n: int, hold: Lease) -> None:
        """Put the first tokens of a block in its place. `hold` keeps it meanwhile."""
        try:
            data = self._states.cut(victim.data, n)
            n_bytes, is_quantized = self._states.size_bytes(data), self._states.is_quantized(data)
        except EngineFailed as error:
            hold.release()
            self.lose(victim, error.message)
            return
        finally:
            hold.release()
        with self._tree.lock:
            # A lease that was taken meanwhile relies on the whole.
            if not is_idle_end(victim):
                return
            n_uses, parent = victim.n_uses, _parent(victim)
            self.unwritten += victim.due_s < math.inf
            self._tree.drop(victim)
            block = self._tree.put(parent, first(victim.tokens, n), is_cuttable=True)
            self._tree.fill(block, data, n_bytes, is_quantized=is_quantized)
            block.n_uses, block.shared_tokens = n_uses, n
            self.touch([block], None)
            self._stats.evictions["shrunk"] += 1

    def lose(self, block: TokenBlock, why: str) -> None:
        """Take a block that can't be used, and all behind it, out of RAM. Any thread."""
        with self._tree.lock:
            if not in_ram(block):
                return
            log.warning("cached states from token %d on are lost: %s", block.start_tokens, why)
            self._stats.evictions["failed"] += 1
            for each in list(self._tree.below(block)):
                for part in (*each.checkpoints.values(), each):
                    self.unwritten += part.due_s < math.inf
                    self._tree.drop(part)

    def clear(self) -> None:
        """Take all that is not in use out of RAM."""
        with self._tree.lock:
            for part in list(self._tree.parts()):
                if is_idle_end(part):
                    self._tree.drop(part)


def is_idle_end(part: KVPart) -> bool:
    """Whether it is in RAM, nobody has leased it, and nothing in RAM relies on it."""
    if part.data is None or part.n_leases:
        return False
    return isinstance(part, Checkpoint) or (
        isinstance(part, TokenBlock) and not part.n_on_top and part.parent is not None
    )


def _parent(part: KVPart) -> TokenBlock:
    assert isinstance(part, TokenBlock) and part.parent is not None
    return part.parent
