"""A cache of KV states in blocks of 256 tokens, played with numbers in place of states. Pure.

States that begin alike share their blocks, and a block ends where a system prompt does. What was
used longest ago, or saves the least, goes first, from the ends of paths. Layers with a window or a
running state can't be cut back: what they hold is kept behind single tokens, as checkpoints. The
server's own cache does the same with arrays.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlxdeck.telemetry.analyze.state_shape import StateShape
from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS

BLOCK_TOKENS = 256
SUBS = BLOCK_TOKENS // SUB_TOKENS
EVEN_TOKENS = 16_384
"""Length of prompt at which attention costs as much as everything else in a layer."""

ReplayPolicy = Literal["lru", "adaptive"]


@dataclass(eq=False, slots=True, kw_only=True)
class PlayedPart:
    """What is kept and evicted."""

    size: float
    rank: float = 0.0
    uses: int = 0
    leases: int = 0


@dataclass(eq=False, slots=True, kw_only=True)
class PlayedBlock(PlayedPart):
    """A run of at most 256 tokens behind others."""

    parent: PlayedBlock | None
    key: object
    start: int
    n: int
    subs: tuple[int, ...]
    """The numbers of its smaller blocks, as far as they are whole."""
    is_cuttable: bool = True
    shared: int = 0
    """So many of its first tokens belong to a system prompt."""
    children: dict[object, PlayedBlock] = field(default_factory=dict)
    checkpoints: dict[int, PlayedCheckpoint] = field(default_factory=dict)

    def path(self) -> list[PlayedBlock]:
        """From the first block to this one."""
        found = []
        each: PlayedBlock | None = self
        while each is not None and each.parent is not None:
            found.append(each)
            each = each.parent
        return found[::-1]


@dataclass(eq=False, slots=True, kw_only=True)
class PlayedCheckpoint(PlayedPart):
    """The layers that can't be cut, behind one token."""

    block: PlayedBlock
    end: int


@dataclass(frozen=True, slots=True)
class PlayedMatch:
    """What of a prompt is known."""

    block: PlayedBlock | None = None
    n_tokens: int = 0
    checkpoint: PlayedCheckpoint | None = None


class BlockCache:
    """Blocks and checkpoints within a limit of bytes."""

    def __init__(
        self, max_bytes: float, policy: ReplayPolicy = "lru", shape: StateShape | None = None
    ) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0.0
        self.n_evicted = 0
        self._shape = shape or StateShape()
        self._adaptive = policy == "adaptive"
        self._is_limited = max_bytes < math.inf
        self._root = PlayedBlock(size=0, parent=None, key=None, start=0, n=0, subs=())
        self._now, self._floor, self._order = 0, 0.0, 0
        self._ends: list[tuple[float, int, PlayedBlock | PlayedCheckpoint]] = []
        """Candidates for eviction; some are out of date."""

    def find(self, path: Sequence[int], n_tokens: int, boundaries: Sequence[int]) -> PlayedMatch:
        """How much of the first `n_tokens` of a prompt is known."""
        best = PlayedMatch()
        for block in sorted(self._whole(path, n_tokens), key=lambda each: -each.start - each.n):
            if best.n_tokens >= block.start + block.n + BLOCK_TOKENS:
                break
            place = (block.start + block.n) // SUB_TOKENS
            rest = path[place : place + SUBS]
            for child in block.children.values():
                known = min(_common(child, rest, boundaries), n_tokens)
                match = _usable(child, known)
                if match.n_tokens > best.n_tokens:
                    best = match
        return best

    def _whole(self, path: Sequence[int], n_tokens: int) -> list[PlayedBlock]:
        """The root, and the blocks with others behind them that a prompt holds whole."""
        found = [self._root]
        for block in found:
            place = (block.start + block.n) // SUB_TOKENS
            end = place + SUBS
            full = block.children.get(path[end - 1]) if end <= len(path) else None
            if full is not None and end * SUB_TOKENS <= n_tokens:
                found.append(full)
            # Ends of system prompts.
            found += [
                child
                for child in block.children.values()
                if child.children
                and child.n < BLOCK_TOKENS
                and child.start + child.n <= n_tokens
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
        parts: tuple[PlayedBlock | PlayedCheckpoint | None, ...] = (match.block, match.checkpoint)
        for part in parts:
            if part is not None:
                part.leases -= 1
                self._offer(part)

    def add(self, path: Sequence[int], n_tokens: int, shared_tokens: int) -> None:
        """Keep the state of a prompt's first tokens, and evict others for it."""
        shape = self._shape
        is_cuttable = shape.is_cuttable(n_tokens)
        if is_cuttable and self._is_limited:
            most = self.max_bytes / max(1e-9, shape.block_bytes(1, is_cuttable=True))
            n_tokens = int(min(n_tokens, most))
        sizes = _split(n_tokens, shared_tokens)
        held = self._known(path, sizes)
        last = held[-1] if held else self._root
        # Who holds the end of a path holds all of it.
        last.leases += 1
        for number, n in enumerate(sizes[len(held) :], len(held) + 1):
            is_last = number == len(sizes)
            made = self._block(last, path, n, is_cuttable=is_cuttable, is_last=is_last)
            if made is None:
                break
            last.leases -= 1
            made.leases += 1
            held.append(made)
            last = made
        is_whole = last.start + last.n >= n_tokens
        mark = None if is_cuttable or not is_whole else self._checkpoint(last, n_tokens)
        for each in held if shared_tokens else ():
            each.shared = max(each.shared, min(shared_tokens - each.start, each.n))
        self._touch(held, mark)
        last.leases -= 1
        self._offer(self._prune(last))

    def _known(self, path: Sequence[int], sizes: Sequence[int]) -> list[PlayedBlock]:
        """Those of the blocks of a state that are there; never its tail."""
        found: list[PlayedBlock] = []
        last = self._root
        for n in sizes if sizes and sizes[-1] == BLOCK_TOKENS else sizes[:-1]:
            child = last.children.get(_key(path, last.start + last.n, n))
            if child is None:
                break
            found.append(child)
            last = child
        return found

    def _block(
        self,
        parent: PlayedBlock,
        path: Sequence[int],
        n: int,
        *,
        is_cuttable: bool,
        is_last: bool = True,
    ) -> PlayedBlock | None:
        """The block of `n` tokens behind `parent`, made if there is room for it."""
        start = parent.start + parent.n
        subs, key = _subs(path, start, n), _key(path, start, n)
        if (known := parent.children.get(key)) is not None:
            return known
        # Only the end of a state may be in a longer block.
        for child in parent.children.values() if is_last else ():
            if child.n >= n and child.subs[: len(subs)] == subs and (subs or child.n == n):
                return child
        size = self._shape.block_bytes(n, is_cuttable=is_cuttable)
        if not self._make_room(size):
            return None
        made = PlayedBlock(
            size=size, parent=parent, key=key, start=start, n=n, subs=subs, is_cuttable=is_cuttable
        )
        parent.children[key] = made
        self.held_bytes += size
        self._supersede(made)
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

    def _supersede(self, made: PlayedBlock) -> None:
        """Drop tails that a longer block begins with; it takes over their checkpoints."""
        assert made.parent is not None
        for tail in list(made.parent.children.values()):
            is_tail = tail is not made and tail.n < made.n and not tail.children
            if is_tail and made.subs[: len(tail.subs)] == tail.subs and tail.subs:
                made.uses += tail.uses
                made.shared = max(made.shared, tail.shared)
                for end, mark in tail.checkpoints.items():
                    mark.block = made
                    made.checkpoints[end] = mark
                tail.checkpoints = {}
                if not tail.leases:
                    self._drop(tail)

    def _make_room(self, size: float) -> bool:
        while self.held_bytes + size > self.max_bytes:
            if not self._ends:
                return False
            rank, _, victim = heapq.heappop(self._ends)
            if rank == victim.rank and _may_go(victim):
                self._evict(victim)
        return True

    def _evict(self, victim: PlayedBlock | PlayedCheckpoint) -> None:
        self.n_evicted += 1
        self._floor = max(self._floor, victim.rank)
        if isinstance(victim, PlayedCheckpoint):
            del victim.block.checkpoints[victim.end]
            self.held_bytes -= victim.size
            self._offer(self._prune(victim.block))
            return
        parent = victim.parent
        assert parent is not None
        is_end = victim.is_cuttable and 0 < victim.shared < victim.n
        if is_end and _holds_alone(victim):
            self._drop(victim)
            left = self._block(parent, self._shrunk(victim), victim.shared, is_cuttable=True)
            if left is not None:
                left.shared, left.uses = victim.shared, victim.uses
                self._touch([left])
            return
        self._drop(victim)
        self._offer(parent)

    def _shrunk(self, victim: PlayedBlock) -> list[int]:
        """A path that is that of a block at the block's own place."""
        subs = victim.subs[: victim.shared // SUB_TOKENS]
        return [0] * (victim.start // SUB_TOKENS) + list(subs)

    def _prune(self, block: PlayedBlock) -> PlayedBlock:
        """Drop what is of no use without a checkpoint behind it; return what it lies on."""
        while not block.is_cuttable and block.parent is not None and _may_go(block):
            parent = block.parent
            self._drop(block)
            block = parent
        return block

    def _drop(self, block: PlayedBlock) -> None:
        assert block.parent is not None
        del block.parent.children[block.key]
        self.held_bytes -= block.size

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
            block.rank = self._rank(block, block.start, block.start + block.n)
        if blocks:
            self._offer(blocks[-1])
        if mark is not None:
            mark.uses += is_use
            before = (end for block in blocks for end in block.checkpoints if end < mark.end)
            mark.rank = self._rank(mark, max(before, default=0), mark.end)
            self._offer(mark)

    def _rank(self, part: PlayedPart, start: int, end: int) -> float:
        if not self._adaptive:
            return self._now
        saved = _cost(end) - _cost(start)
        return self._floor + (1 + part.uses) * saved / max(1, part.size)

    def _offer(self, part: PlayedBlock | PlayedCheckpoint) -> None:
        """It is the end of a path now, or may be one later."""
        if self._is_limited and (isinstance(part, PlayedCheckpoint) or part.parent is not None):
            self._order += 1
            heapq.heappush(self._ends, (part.rank, self._order, part))


def _split(n_tokens: int, shared_tokens: int) -> list[int]:
    """Sizes of a state's blocks; one ends where its system prompt does, about."""
    cut = shared_tokens // SUB_TOKENS * SUB_TOKENS if 4 * shared_tokens >= BLOCK_TOKENS else 0
    sizes, at = [], 0
    while at < n_tokens:
        end = cut if at < cut < at + BLOCK_TOKENS else at + BLOCK_TOKENS
        sizes.append(min(end, n_tokens) - at)
        at = end
    return sizes


def _subs(path: Sequence[int], start: int, n: int) -> tuple[int, ...]:
    first = start // SUB_TOKENS
    return tuple(path[first : first + n // SUB_TOKENS])


def _key(path: Sequence[int], start: int, n: int) -> object:
    subs = _subs(path, start, n)
    return subs[-1] if n == BLOCK_TOKENS and len(subs) == SUBS else (subs, n)


def _cost(n: int) -> float:
    return n * (1 + n / (2 * EVEN_TOKENS))


def _may_go(part: PlayedBlock | PlayedCheckpoint) -> bool:
    """Whether it is there, nobody has leased it, and nothing relies on it."""
    if part.leases:
        return False
    if isinstance(part, PlayedCheckpoint):
        return part.block.checkpoints.get(part.end) is part
    is_there = part.parent is not None and part.parent.children.get(part.key) is part
    return is_there and not part.children and not part.checkpoints


def _holds_alone(victim: PlayedBlock) -> bool:
    """Whether nothing else holds the end of a system prompt."""
    subs = victim.subs[: victim.shared // SUB_TOKENS]
    siblings: Iterable[PlayedBlock] = victim.parent.children.values() if victim.parent else ()
    return not any(
        each is not victim and each.n >= victim.shared and each.subs[: len(subs)] == subs
        for each in siblings
    )


def _usable(block: PlayedBlock, known: int) -> PlayedMatch:
    """What a block gives of a prompt that it knows up to a token."""
    if block.is_cuttable:
        return PlayedMatch(block, known) if known > block.start else PlayedMatch()
    ends = [end for end in block.checkpoints if end <= known]
    if not ends:
        return PlayedMatch()
    return PlayedMatch(block, max(ends), block.checkpoints[max(ends)])


def _common(child: PlayedBlock, rest: Sequence[int], boundaries: Sequence[int]) -> int:
    """Up to which token of a prompt a block knows it; rests of small blocks are estimated."""
    n = 0
    for own, other in zip(child.subs, rest, strict=False):
        if own != other:
            break
        n += 1
    if n == len(child.subs) and n:
        return child.start + child.n
    known = child.start + n * SUB_TOKENS
    # Prompts part where a message begins, if at all.
    return max([known, *(each for each in boundaries if known < each < known + SUB_TOKENS)])
