"""A cache of KV states in blocks of 256 tokens, played with numbers in place of states. Pure.

States that begin alike share their blocks. What was used longest ago, or saves the least, goes
first, from the ends of paths. The server's own cache does the same with arrays.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS

BLOCK_TOKENS = 256
SUBS = BLOCK_TOKENS // SUB_TOKENS
EVEN_TOKENS = 16_384
"""Length of prompt at which attention costs as much as everything else in a layer."""

ReplayPolicy = Literal["lru", "adaptive"]


@dataclass(eq=False, slots=True)
class PlayedBlock:
    """A run of at most 256 tokens behind others."""

    parent: PlayedBlock | None
    key: object
    start: int
    n: int
    subs: tuple[int, ...]
    """The numbers of its smaller blocks, as far as they are whole."""
    shared: int = 0
    """So many of its first tokens belong to a system prompt."""
    rank: float = 0.0
    uses: int = 0
    leases: int = 0
    children: dict[object, PlayedBlock] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlayedMatch:
    """What of a prompt is known."""

    block: PlayedBlock | None
    n_tokens: int


class BlockCache:
    """Blocks within a limit of tokens."""

    def __init__(self, max_tokens: float, policy: ReplayPolicy = "lru") -> None:
        self.max_tokens = max_tokens
        self.held_tokens = 0
        self.n_evicted = 0
        self._adaptive = policy == "adaptive"
        self._is_limited = max_tokens < math.inf
        self._root = PlayedBlock(None, None, 0, 0, ())
        self._now, self._floor, self._order = 0, 0.0, 0
        self._ends: list[tuple[float, int, PlayedBlock]] = []
        """Candidates for eviction; some are out of date."""

    def find(self, path: Sequence[int], n_tokens: int, boundaries: Sequence[int]) -> PlayedMatch:
        """How many of the first `n_tokens` of a prompt are known."""
        full = self._known(path, n_tokens)
        block, place = full[-1] if full else self._root, len(full)
        rest = path[place * SUBS : (place + 1) * SUBS]
        best, known = block, block.start + block.n
        for child in block.children.values():
            n = _common(child, rest, boundaries)
            if n > known:
                best, known = child, n
        return PlayedMatch(best if best is not self._root else None, min(known, n_tokens))

    def lease(self, match: PlayedMatch) -> None:
        """Use what was found, and hold it."""
        if match.block is not None:
            match.block.leases += 1
            self._touch(_path(match.block), is_use=True)

    def release(self, match: PlayedMatch) -> None:
        """It may be evicted again."""
        if match.block is not None:
            match.block.leases -= 1
            self._offer(match.block)

    def add(self, path: Sequence[int], n_tokens: int, shared_tokens: int) -> None:
        """Keep the state of a prompt's first tokens, and evict others for it."""
        n_tokens = int(min(n_tokens, self.max_tokens))
        held, last = self._known(path, n_tokens), self._root
        if held:
            last = held[-1]
        # Who holds the end of a path holds all of it.
        last.leases += 1
        for start in range(len(held) * BLOCK_TOKENS, n_tokens, BLOCK_TOKENS):
            made = self._block(last, path, start, min(BLOCK_TOKENS, n_tokens - start))
            if made is None:
                break
            last.leases -= 1
            made.leases += 1
            held.append(made)
            last = made
        if shared_tokens:
            for each in held[: shared_tokens // BLOCK_TOKENS + 1]:
                each.shared = max(each.shared, min(shared_tokens - each.start, each.n))
        self._touch(held)
        last.leases -= 1
        self._offer(last)

    def _known(self, path: Sequence[int], n_tokens: int) -> list[PlayedBlock]:
        """The full blocks that a prompt begins with."""
        found: list[PlayedBlock] = []
        children = self._root.children
        for end in range(SUBS, min(len(path), n_tokens // SUB_TOKENS) + 1, SUBS):
            child = children.get(path[end - 1])
            if child is None:
                break
            found.append(child)
            children = child.children
        return found

    def _block(
        self, parent: PlayedBlock, path: Sequence[int], start: int, n: int
    ) -> PlayedBlock | None:
        """The block of these tokens behind `parent`, made if there is room for it."""
        first = start // SUB_TOKENS
        subs = tuple(path[first : first + n // SUB_TOKENS])
        key: object = subs[-1] if n == BLOCK_TOKENS and len(subs) == SUBS else (subs, n)
        if (known := parent.children.get(key)) is not None:
            return known
        for child in parent.children.values():
            if child.n >= n and child.subs[: len(subs)] == subs and (subs or child.n == n):
                return child
        if not self._make_room(n):
            return None
        made = PlayedBlock(parent, key, start, n, subs)
        parent.children[key] = made
        self.held_tokens += n
        self._supersede(made)
        return made

    def _supersede(self, made: PlayedBlock) -> None:
        """Drop tails that a longer block begins with."""
        assert made.parent is not None
        for tail in list(made.parent.children.values()):
            is_tail = tail is not made and tail.n < made.n and not tail.children
            if is_tail and made.subs[: len(tail.subs)] == tail.subs and tail.subs:
                made.uses += tail.uses
                made.shared = max(made.shared, tail.shared)
                if not tail.leases:
                    self._drop(tail)

    def _make_room(self, n: int) -> bool:
        while self.held_tokens + n > self.max_tokens:
            if not self._ends:
                return False
            rank, _, victim = heapq.heappop(self._ends)
            if rank == victim.rank and self._may_go(victim):
                self._evict(victim)
        return True

    def _may_go(self, block: PlayedBlock) -> bool:
        parent = block.parent
        there = parent is not None and parent.children.get(block.key) is block
        return there and not block.leases and not block.children

    def _evict(self, victim: PlayedBlock) -> None:
        parent = victim.parent
        assert parent is not None
        self.n_evicted += 1
        self._floor = max(self._floor, victim.rank)
        if 0 < victim.shared < victim.n and self._holds_alone(victim):
            self._drop(victim)
            n, subs = victim.shared, victim.subs[: victim.shared // SUB_TOKENS]
            left = PlayedBlock(parent, (subs, n), victim.start, n, subs, n, uses=victim.uses)
            parent.children[left.key] = left
            self.held_tokens += n
            self._touch([left])
            self._offer(left)
            return
        self._drop(victim)
        self._offer(parent)

    def _holds_alone(self, victim: PlayedBlock) -> bool:
        """Whether nothing else holds the end of a system prompt."""
        subs = victim.subs[: victim.shared // SUB_TOKENS]
        siblings = victim.parent.children.values() if victim.parent else ()
        return not any(
            each is not victim and each.n >= victim.shared and each.subs[: len(subs)] == subs
            for each in siblings
        )

    def _drop(self, block: PlayedBlock) -> None:
        assert block.parent is not None
        del block.parent.children[block.key]
        self.held_tokens -= block.n

    def _touch(self, blocks: Sequence[PlayedBlock], *, is_use: bool = False) -> None:
        if not self._is_limited:
            return
        self._now += 1
        for block in blocks:
            block.uses += is_use
            block.rank = self._rank(block) if self._adaptive else self._now
        if blocks:
            self._offer(blocks[-1])

    def _rank(self, block: PlayedBlock) -> float:
        saved = _cost(block.start + block.n) - _cost(block.start)
        return self._floor + (1 + block.uses) * saved / max(1, block.n)

    def _offer(self, block: PlayedBlock) -> None:
        """It is the end of a path now, or may be one later."""
        if block.parent is not None and not block.children and self._is_limited:
            self._order += 1
            heapq.heappush(self._ends, (block.rank, self._order, block))


def _cost(n: int) -> float:
    return n * (1 + n / (2 * EVEN_TOKENS))


def _path(block: PlayedBlock) -> list[PlayedBlock]:
    found = []
    each: PlayedBlock | None = block
    while each is not None and each.parent is not None:
        found.append(each)
        each = each.parent
    return found[::-1]


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
    within = [each for each in boundaries if known < each < known + SUB_TOKENS]
    return max([known, *within]) if n or within else known
