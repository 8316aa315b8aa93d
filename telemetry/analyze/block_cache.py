"""A cache of KV states in blocks of 256 tokens, played with numbers in place of states. Pure.

States that begin alike share their blocks, and a block ends where a system prompt does. What was
used longest ago, or saves the least, goes first, from the ends of paths. Layers with a window or a
running state can't be cut back: what they hold is kept behind single tokens, as checkpoints.

The server's own cache does the same with arrays. A test plays both side by side: they hold the same
bytes after every step, whatever the kind of model, the policy and the room.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Literal

from mlxdeck.telemetry.analyze.played_blocks import (
    BLOCK_TOKENS,
    NOWHERE,
    SUBS,
    Part,
    Places,
    PlayedBlock,
    PlayedCheckpoint,
    PlayedMatch,
    PlayedTokens,
    is_idle_end,
    is_worth_keeping,
    n_common,
    piece_of,
    split,
    usable,
)
from mlxdeck.telemetry.analyze.state_shape import StateShape
from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS

EVEN_TOKENS = 16_384
"""Length of prompt at which attention costs as much as everything else in a layer."""

ReplayPolicy = Literal["lru", "adaptive"]


class BlockCache:
    """Blocks and checkpoints within a limit of bytes."""

    def __init__(
        self, max_bytes: float, policy: ReplayPolicy = "lru", shape: StateShape | None = None
    ) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0.0
        self.n_evicted = 0
        self._shape = shape or StateShape()
        self.is_cuttable = self._shape.is_cuttable
        self._adaptive = policy == "adaptive"
        self._is_limited = max_bytes < math.inf
        self._root = PlayedBlock(size=0, parent=None, piece=piece_of((), 0, 0))
        self._now, self._floor, self._order = 0, 0.0, 0
        self._ends: list[tuple[float, int, int, Part]] = []
        """Candidates for eviction; some are out of date."""

    def find(self, path: Sequence[int], n_tokens: int, places: Places = NOWHERE) -> PlayedMatch:
        """How much of the first `n_tokens` of a prompt is known."""
        best = PlayedMatch()
        for block in sorted(self._whole(path, n_tokens), key=lambda each: -each.end):
            if best.n_tokens >= block.end + BLOCK_TOKENS:
                break
            place = block.end // SUB_TOKENS
            rest = path[place : place + SUBS]
            for child in block.children.values():
                match = usable(child, min(n_common(child, rest, places), n_tokens))
                if match.n_tokens > best.n_tokens:
                    best = match
        return best

    def _whole(self, path: Sequence[int], n_tokens: int) -> list[PlayedBlock]:
        """The root, and the blocks with others behind them that a prompt holds whole."""
        found = [self._root]
        for block in found:
            place = block.end // SUB_TOKENS
            end = place + SUBS
            full = block.children.get(path[end - 1]) if end <= len(path) else None
            if full is not None and full.end <= n_tokens:
                found.append(full)
            # Ends of system prompts.
            found += [
                child
                for child in block.children.values()
                if child.children
                and child.n < BLOCK_TOKENS
                and child.end <= n_tokens
                and child.subs == tuple(path[place : place + len(child.subs)])
            ]
        return found

    def lease(self, match: PlayedMatch) -> None:
        """Use what was found, and hold it."""
        if match.block is not None:
            match.block.leases += 1
            if match.checkpoint is not None:
                match.checkpoint.leases += 1
            self._touch(match.block.path(), match.checkpoint, is_use=True)

    def release(self, match: PlayedMatch) -> None:
        """It may be evicted again."""
        for part in (match.block, match.checkpoint):
            if part is not None:
                part.leases -= 1
                self._offer(part)

    def add(
        self,
        path: Sequence[int],
        n_tokens: int,
        shared_tokens: int,
        common_tokens: float = math.inf,
    ) -> Part | None:
        """Keep the state of a prompt's first tokens, and evict others for it.

        `common_tokens` is how much of it others may have: all, but for the end of an answer.
        Returns its end; None if there was no room for it.
        """
        if self.is_cuttable:
            n_tokens = self._fitting(n_tokens)
        pieces = split(path, n_tokens, shared_tokens, common_tokens)
        held = self._known(pieces)
        last = held[-1] if held else self._root
        # Who holds the end of a path holds all of it.
        last.leases += 1
        has_room = self._make_room(self._lacking(pieces, held))
        end: Part | None = None
        if has_room or self.is_cuttable:
            for piece in pieces[len(held) :]:
                made = self._block(last, piece, is_last=piece is pieces[-1])
                if made is None:
                    break
                last.leases -= 1
                made.leases += 1
                held.append(made)
                last = made
            if len(held) == len(pieces):
                end = last if self.is_cuttable else self._checkpoint(last, n_tokens)
        if end is not None:
            for each in held if shared_tokens else ():
                each.shared = max(each.shared, min(shared_tokens - each.start, each.n))
            self._touch(held, end if isinstance(end, PlayedCheckpoint) else None)
        last.leases -= 1
        self._offer(self._prune(last))
        return end

    def restore(self, stored: PlayedMatch) -> None:
        """Put what a cache on disk has found into this one, part by part, as far as there is room.

        Each part is stored by itself, and what is here already is not used.
        """
        last, whole = self._root, stored.block.path() if stored.block else []
        last.leases += 1
        for block in whole:
            known = self._block(last, block.piece, is_last=block is stored.block)
            if known is None:
                break
            if not known.used:
                known.shared = block.shared
                self._touch([known])
            last.leases -= 1
            known.leases += 1
            last = known
        mark = stored.checkpoint
        if mark is not None and last.end >= mark.end and mark.end not in last.checkpoints:
            self._touch([], self._checkpoint(last, mark.end))
        last.leases -= 1
        self._offer(last)

    def _fitting(self, n_tokens: int) -> int:
        """How many of a state's tokens there would be room for, if it were alone."""
        size = self._shape.block_bytes(n_tokens)
        return n_tokens if size <= self.max_bytes else int(n_tokens * self.max_bytes // size)

    def _known(self, pieces: Sequence[PlayedTokens]) -> list[PlayedBlock]:
        """Those of the blocks of a state that are there; never its tail."""
        found: list[PlayedBlock] = []
        last = self._root
        for piece in pieces:
            child = last.children.get(piece.key)
            if child is None or (piece is pieces[-1] and piece.n < BLOCK_TOKENS):
                break
            found.append(child)
            last = child
        return found

    def _lacking(self, pieces: Sequence[PlayedTokens], held: Sequence[PlayedBlock]) -> float:
        """Bytes that a state adds to what is there."""
        end = pieces[-1].end if pieces else 0
        last = held[-1] if held else self._root
        if len(held) == len(pieces) - 1:
            # Only its end is not known to be there.
            last = last.holder(pieces[-1]) or last
        start = min(last.end, end)
        if start == end and end in last.checkpoints:
            return 0
        size = self._shape.block_bytes(end - start)
        return size if self.is_cuttable else size + self._shape.checkpoint_bytes(end)

    def _block(
        self, parent: PlayedBlock, piece: PlayedTokens, *, is_last: bool
    ) -> PlayedBlock | None:
        """The block of a piece behind `parent`, made if there is room for it."""
        # Only the end of a state may be in a longer block.
        known = parent.holder(piece) if is_last else parent.children.get(piece.key)
        if known is not None:
            return known
        if not self._make_room(self._shape.block_bytes(piece.n)):
            return None
        return self._put(parent, piece)

    def _put(self, parent: PlayedBlock, piece: PlayedTokens) -> PlayedBlock:
        """A block in the place of tails that it begins with; it takes over their checkpoints."""
        size = self._shape.block_bytes(piece.n)
        made = PlayedBlock(size=size, parent=parent, piece=piece, is_cuttable=self.is_cuttable)
        for tail in parent.tails_of(made):
            made.uses += tail.uses
            made.shared = max(made.shared, tail.shared)
            for end, mark in tail.checkpoints.items():
                mark.block = made
                made.checkpoints[end] = mark
            tail.checkpoints = {}
            # One that is leased goes in its turn, as the end of a path.
            if not tail.leases:
                self._drop(tail)
        parent.children[piece.key] = made
        self.held_bytes += size
        return made

    def _checkpoint(self, block: PlayedBlock, end: int) -> PlayedCheckpoint | None:
        """What the other layers hold there, made if there is room for it."""
        known = block.checkpoints.get(end)
        if known is None:
            size = self._shape.checkpoint_bytes(end)
            if not self._make_room(size):
                return None
            known = PlayedCheckpoint(size=size, block=block, end=end)
            block.checkpoints[end] = known
            self.held_bytes += size
        return known

    def _make_room(self, size: float) -> bool:
        """Evict until there is room for so many bytes; return whether there is."""
        if size > self.max_bytes:
            return False
        while self.held_bytes + size > self.max_bytes:
            if not self._ends:
                return False
            rank, used, _, victim = heapq.heappop(self._ends)
            if (rank, used) == (victim.rank, victim.used) and is_idle_end(victim):
                self._evict(victim)
        return True

    def _evict(self, victim: Part) -> None:
        self.n_evicted += 1
        self._floor = max(self._floor, victim.rank)
        is_shrunk = is_worth_keeping(victim)
        self._drop(victim)
        if is_shrunk and isinstance(victim, PlayedBlock) and victim.parent is not None:
            left = self._put(victim.parent, victim.first(victim.shared))
            left.shared, left.uses = victim.shared, victim.uses
            self._touch([left])
            return
        below = victim.block if isinstance(victim, PlayedCheckpoint) else victim.parent
        if below is not None:
            self._offer(self._prune(below))

    def _prune(self, block: PlayedBlock) -> PlayedBlock:
        """Drop what is of no use without a checkpoint behind it; return what it lies on."""
        while not block.is_cuttable and block.parent is not None and is_idle_end(block):
            self._drop(block)
            block = block.parent
        return block

    def _drop(self, part: Part) -> None:
        if isinstance(part, PlayedCheckpoint):
            del part.block.checkpoints[part.end]
        elif part.parent is not None:
            del part.parent.children[part.piece.key]
        part.is_held = False
        self.held_bytes -= part.size

    def _touch(
        self,
        blocks: Sequence[PlayedBlock],
        mark: PlayedCheckpoint | None = None,
        *,
        is_use: bool = False,
    ) -> None:
        if not self._is_limited:
            return
        self._now += 1
        for block in blocks:
            block.uses += is_use
            self._rank(block, block.start, block.end)
        if mark is not None:
            mark.uses += is_use
            before = (end for block in blocks for end in block.checkpoints if end < mark.end)
            self._rank(mark, max(before, default=0), mark.end)
            self._offer(mark)
        if blocks:
            self._offer(blocks[-1])

    def _rank(self, part: Part, start: int, end: int) -> None:
        part.used = self._now
        part.rank = float(self._now)
        if self._adaptive:
            saved = _cost(end) - _cost(start)
            part.rank = self._floor + (1 + part.uses) * saved / max(1, part.size)

    def _offer(self, part: Part) -> None:
        """It is the end of a path now, or may be one later."""
        if self._is_limited and is_idle_end(part):
            self._order += 1
            heapq.heappush(self._ends, (part.rank, part.used, self._order, part))


def _cost(n: int) -> float:
    return n * (1 + n / (2 * EVEN_TOKENS))
