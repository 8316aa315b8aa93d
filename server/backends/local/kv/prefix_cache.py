"""KV states in RAM: the longest known prefix of any prompt, within a hard limit of bytes.

What is kept are the blocks of `BlockTree`, each once, however many states begin with it. Only the
engine knows what a block holds; this module decides which are kept. The prompt thread takes leases;
the engine thread keeps and evicts, so that arrays are made and freed there.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mlxdeck.server.backends.local.engine.api import State, StatePart, States
from mlxdeck.server.backends.local.kv.blocks import (
    BlockTree,
    Checkpoint,
    KVPart,
    TokenBlock,
    block_key,
    in_ram,
)
from mlxdeck.server.backends.local.kv.eviction import Eviction
from mlxdeck.server.backends.local.kv.eviction_policy import Lru, Policy
from mlxdeck.server.backends.local.kv.leases import Lease, Leases
from mlxdeck.server.backends.local.kv.token_bytes import first, n_tokens, pack, without_last
from mlxdeck.server.backends.local.kv.write_queue import WriteQueue
from mlxdeck.server.cache.cache_stats import CacheStats, Counts
from mlxdeck.server.errors import EngineFailed

log = logging.getLogger(__name__)

MAX_BLOCKS = 32_768
"""In RAM; so many are looked through in some milliseconds for the least useful one."""


class PrefixCache:
    """States by their tokens. Safe from any thread; `add` and `clear` on the engine's.

    No method of the engine is called under the lock: if the engine hangs, other threads don't.
    """

    def __init__(
        self,
        states: States,
        max_bytes: int,
        policy: Policy | None = None,
        tree: BlockTree | None = None,
    ) -> None:
        """`tree` is the index that the disk shares."""
        self.tree = tree or BlockTree()
        self.max_bytes = max_bytes
        self.stats = CacheStats()
        self.leases = Leases(self.tree)
        self.waiting = WriteQueue(self.tree, self.leases)
        self._states = states
        self._eviction = Eviction(self.tree, states, policy or Lru(), self.stats, self.leases)
        self._lock = self.tree.lock
        self._n_refused = 0
        self.free_bytes: Callable[[], int] = lambda: sys.maxsize
        """How much more memory may be taken, by the engine's own figures. Engine thread."""
        self._free_bytes = 0
        """The same, as far as it is known of what is being put in."""

    def __len__(self) -> int:
        """How many states there are: ends of paths, or checkpoints."""
        return self.tree.n_states

    @property
    def n_bytes(self) -> int:
        """Bytes of all blocks and checkpoints, each once."""
        return self.tree.n_bytes

    @property
    def n_leases(self) -> int:
        """Leases that have not been given back."""
        return len(self.leases)

    @property
    def unwritten(self) -> int:
        """States that were given up, or not taken, before the disk had them."""
        return self._n_refused + self._eviction.unwritten

    def known(self, tokens: bytes) -> int:
        """How many leading tokens of a prompt are known; one is always left to run."""
        with self._lock:
            match = self.tree.find(without_last(tokens), in_ram)
            return match.n_tokens if match else 0

    def lease(self, tokens: Sequence[int]) -> Lease:
        """Take the longest cached prefix of a prompt, at most `len(tokens) - 1` long."""
        wanted = pack(tokens[:-1])
        while True:
            with self._lock:
                match = self.tree.find(wanted, in_ram)
                if match is None:
                    self.stats.add(Counts(misses=1, prompt_tokens=len(tokens)))
                    return self.leases.nothing()
                # From here on it stays as it is.
                lease = self.leases.take(match.block, match.checkpoint, match.n_tokens)
                path = match.block.path()
                data = [each.data for each in path]
                held = match.checkpoint.data if match.checkpoint else None
            try:
                lease.state = self._states.lease(data, match.n_tokens, held)
            except EngineFailed as error:
                lease.release()
                self._eviction.lose(match.block, error.message)
                continue
            except BaseException:
                lease.release()
                raise
            with self._lock:
                counts = Counts(hits=1, hit_tokens=match.n_tokens, prompt_tokens=len(tokens))
                self.stats.add(counts)
                self._eviction.touch(path, match.checkpoint, is_use=True)
            return lease

    def add(self, tokens: bytes, state: State, shared_tokens: int, *, store: bool = False) -> None:
        """Store what is new of a state, and evict others for it.

        With `store` it is also written to disk, once its conversation has been quiet. States that
        wait for the disk are only here, within the same limit, and may be evicted.
        """
        try:
            is_kept = self._add(tokens, state, shared_tokens, store=store)
        except EngineFailed as error:
            self.refuse(tokens, error.message)
            is_kept = False
        self._n_refused += store and not is_kept

    def refuse(self, tokens: bytes, why: str) -> None:
        """Count a state that could not be kept. Engine thread."""
        log.warning("a state of %d tokens is not kept: %s", n_tokens(tokens), why)
        self.stats.evictions["failed"] += 1

    def _add(self, tokens: bytes, state: State, shared_tokens: int, *, store: bool) -> bool:
        """Return whether it is kept."""
        is_cuttable = self._states.is_cuttable(state)
        if is_cuttable:
            tokens = first(tokens, self._fitting(state, n_tokens(tokens)))
        pieces = list(self.tree.split(tokens, shared_tokens))
        self._free_bytes = 0
        with self._held(pieces) as (hold, path):
            n_known = len(path)
            has_room = self._make_room(self._lacking(state, pieces, path))
            if not has_room and not is_cuttable:
                self.stats.evictions["no_room"] += 1
                return False
            for n, piece in enumerate(pieces[n_known:], n_known + 1):
                parent = path[-1] if path else self.tree.root
                block = self._block(parent, piece, state, is_last=n == len(pieces))
                if block is None:
                    self.stats.evictions["no_room"] += 1
                    return False
                path.append(block)
                hold.move(block)
            checkpoint = None
            if not is_cuttable:
                checkpoint = self._checkpoint(path[-1], n_tokens(tokens), state)
                if checkpoint is None:
                    return False
            with self._lock:
                for block in path[n_known:]:
                    shared = min(shared_tokens - block.start_tokens, n_tokens(block.tokens))
                    block.shared_tokens = max(block.shared_tokens, shared)
                self._eviction.touch(path, checkpoint)
                if store:
                    self.waiting.put(path, checkpoint)
        return True

    def _fitting(self, state: State, n: int) -> int:
        """How many of a state's tokens there would be room for, if it were alone."""
        n_bytes = self._states.block_bytes(state, 0, n)
        return n if n_bytes <= self.max_bytes else n * self.max_bytes // n_bytes

    @contextmanager
    def _held(self, pieces: Sequence[bytes]) -> Iterator[tuple[Lease, list[TokenBlock]]]:
        """The blocks in RAM that a state begins with; the last one is held."""
        with self._lock:
            path = self.tree.exact(pieces, in_ram)
            hold = self.leases.take(path[-1] if path else self.tree.root)
        try:
            yield hold, path
        finally:
            last = path[-1] if path else self.tree.root
            hold.release()
            self._eviction.prune(last)

    def _lacking(self, state: State, pieces: Sequence[bytes], path: Sequence[TokenBlock]) -> int:
        """Bytes that a state adds to what is there."""
        end = sum(map(n_tokens, pieces))
        with self._lock:
            last = path[-1] if path else self.tree.root
            if len(path) == len(pieces) - 1:
                # Only its end is not known to be there.
                last = self.tree.holder(last, pieces[-1], in_ram) or last
            start = min(last.end_tokens, end)
            known = last.checkpoints.get(end)
            if start == end and known is not None and in_ram(known):
                return 0
        return self._states.block_bytes(state, start, end) + self._states.checkpoint_bytes(state)

    def _block(
        self, parent: TokenBlock, tokens: bytes, state: State, *, is_last: bool
    ) -> TokenBlock | None:
        """The block that holds these tokens, made if need be; None if there is no room for it.

        Only the end of a state may be in a longer one.
        """
        with self._lock:
            known = parent.children.get(block_key(parent.key, tokens))
            if is_last:
                known = self.tree.holder(parent, tokens, in_ram)
        if known is not None and in_ram(known):
            return known
        start = parent.end_tokens
        end = start + n_tokens(tokens)
        wanted_bytes = self._states.block_bytes(state, start, end)
        if not self._make_room(wanted_bytes):
            return None
        data = self._states.block(state, start, end)
        self._free_bytes -= wanted_bytes
        n_bytes = self._states.size_bytes(data)
        if not self._make_room(n_bytes, is_made=True):
            return None
        is_cuttable = self._states.is_cuttable(state)
        with self._lock:
            block = self.tree.put(parent, tokens, is_cuttable=is_cuttable)
            self._fill(block, data, n_bytes)
        return block

    def _fill(
        self, block: TokenBlock, data: StatePart, n_bytes: int, *, is_quantized: bool = False
    ) -> None:
        """Put a block into RAM, in the place of tails that it begins with."""
        self.tree.fill(block, data, n_bytes, is_quantized=is_quantized)
        for tail in self.tree.superseded(block):
            self.tree.move_checkpoints(tail, block)
            block.n_uses += tail.n_uses
            block.shared_tokens = max(block.shared_tokens, tail.shared_tokens)
            # One that is leased goes in its turn, as the end of a path.
            if not tail.n_leases:
                self.tree.drop(tail)

    def _checkpoint(self, block: TokenBlock, end_tokens: int, state: State) -> Checkpoint | None:
        """What the other layers hold there, made if need be; None if there is no room for it."""
        with self._lock:
            known = block.checkpoints.get(end_tokens)
            if known is not None and in_ram(known):
                return known
        data = self._states.checkpoint(state)
        n_bytes = self._states.size_bytes(data)
        if not self._make_room(n_bytes, is_made=True):
            return None
        with self._lock:
            made = self.tree.put_checkpoint(block, end_tokens)
            self.tree.fill(made, data, n_bytes)
        return made

    def hold(self, path: Sequence[TokenBlock]) -> Lease:
        """Hold what is in RAM of a path, as more of it is going to be restored."""
        with self._lock:
            held = [block for block in path if in_ram(block)]
            return self.leases.take(held[-1] if held else self.tree.root)

    def put(self, part: KVPart, data: StatePart) -> bool:
        """Put a part that was on disk into RAM; return whether it is there. Engine thread.

        There may be no room for it, or its state may have been removed meanwhile.
        """
        n_bytes, is_quantized = self._states.size_bytes(data), self._states.is_quantized(data)
        if not self._make_room(n_bytes, is_made=True):
            return False
        with self._lock:
            if not self.tree.rests_on_ram(part):
                return False
            if isinstance(part, TokenBlock):
                self._fill(part, data, n_bytes, is_quantized=is_quantized)
                self._eviction.touch([part], None)
            elif isinstance(part, Checkpoint):
                self.tree.fill(part, data, n_bytes)
                self._eviction.touch([], part)
        return True

    def make_room(self, n_bytes: int) -> bool:
        """Have room for what is going to be made and put in; return whether there is any."""
        self._free_bytes = 0
        return self._make_room(n_bytes)

    def _make_room(self, n_bytes: int, *, is_made: bool = False) -> bool:
        """Evict until there is room for so many bytes; return whether there is.

        What `is_made` takes its memory already.
        """
        if n_bytes > self.max_bytes:
            return False
        taken = 0 if is_made else n_bytes
        if taken > self._free_bytes:
            self._free_bytes = self.free_bytes()
        before, lacking = self.n_bytes, max(0, taken - self._free_bytes)
        self._eviction.give_up(
            lambda: before - self.tree.n_bytes >= lacking and self._has_room(n_bytes)
        )
        if lacking:
            # Those that run may still hold what was given up.
            self._free_bytes = self.free_bytes()
        with self._lock:
            return taken <= self._free_bytes and self._has_room(n_bytes)

    def _has_room(self, n_bytes: int) -> bool:
        return self.tree.n_bytes + n_bytes <= self.max_bytes and self.tree.n_in_ram < MAX_BLOCKS

    def spoil(self, tokens: bytes) -> None:
        """Drop what a prompt begins with: nothing could be drawn from such a state.

        Whichever of its blocks is the reason: all goes that lies behind the first one.
        """
        with self._lock:
            for block in self.tree.begins(tokens):
                self._eviction.lose(block, "no token could be sampled from it")

    def give_way(self, n_bytes: int) -> int:
        """Give up states until so many bytes are freed, or all that are not in use; return them."""
        before = self.n_bytes
        self._eviction.give_up(lambda: before - self.n_bytes >= n_bytes)
        return before - self.n_bytes

    def clear(self) -> int:
        """Forget every state that is not in use; return how many."""
        with self._lock:
            before = len(self)
            self._eviction.clear()
            return before - len(self)

    def unload(self) -> None:
        """Give up every state that is not in use, as their model is unloaded. Engine thread."""
        with self._lock:
            n_waiting = len(self.waiting)
            self.stats.evictions["unloaded"] += self.clear()
            self._n_refused += n_waiting - len(self.waiting)
