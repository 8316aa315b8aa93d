"""Blocks and checkpoints of a cache that is played with numbers in place of states. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS

BLOCK_TOKENS = 256
SUBS = BLOCK_TOKENS // SUB_TOKENS


class PlayedTokens(NamedTuple):
    """What a block holds of a prompt. A tuple, as millions are made."""

    start: int
    n: int
    end: int
    """Number of tokens of the whole path."""
    subs: tuple[int, ...]
    """The numbers of the smaller blocks that end in it; each stands for all tokens before, too."""
    common_end: int
    """Up to which token others may have the same: what follows is the end of one answer only."""
    key: object
    """What it is called among those behind the same block."""

    @property
    def is_common(self) -> bool:
        """Whether others may have the same."""
        return self.common_end == self.end


def piece_of(
    path: Sequence[int], start: int, n: int, common_tokens: float = math.inf
) -> PlayedTokens:
    """Some tokens of a path, of which others have no more than the first `common_tokens`."""
    end = start + n
    subs = tuple(path[start // SUB_TOKENS : end // SUB_TOKENS])
    if common_tokens < end and end % SUB_TOKENS:
        # What only one answer has is in smaller blocks with numbers of their own.
        common_end = max(start, int(common_tokens), end // SUB_TOKENS * SUB_TOKENS)
        return PlayedTokens(start, n, end, subs, common_end, (subs, n, path[end // SUB_TOKENS]))
    is_full = n == BLOCK_TOKENS and len(subs) == SUBS
    return PlayedTokens(start, n, end, subs, end, subs[-1] if is_full else (subs, n))


@dataclass(eq=False, slots=True, kw_only=True)
class PlayedPart:
    """What is kept and evicted."""

    size: float
    rank: float = 0.0
    used: int = 0
    """When it was last stored or used, by the cache's clock."""
    uses: int = 0
    leases: int = 0
    is_held: bool = True
    """Whether it is in the cache still."""


@dataclass(eq=False, slots=True, kw_only=True)
class PlayedBlock(PlayedPart):
    """A run of at most 256 tokens behind others."""

    parent: PlayedBlock | None
    piece: PlayedTokens
    is_cuttable: bool = True
    shared: int = 0
    """So many of its first tokens belong to a system prompt."""
    children: dict[object, PlayedBlock] = field(default_factory=dict)
    checkpoints: dict[int, PlayedCheckpoint] = field(default_factory=dict)
    start: int = field(init=False)
    n: int = field(init=False)
    end: int = field(init=False)
    subs: tuple[int, ...] = field(init=False)
    """These four are as in its piece; they are asked for often."""

    def __post_init__(self) -> None:
        piece = self.piece
        self.start, self.n, self.end, self.subs = piece.start, piece.n, piece.end, piece.subs

    def path(self) -> list[PlayedBlock]:
        """From the first block to this one."""
        found = []
        each: PlayedBlock | None = self
        while each is not None and each.parent is not None:
            found.append(each)
            each = each.parent
        return found[::-1]

    def first(self, n: int) -> PlayedTokens:
        """Its first `n` tokens."""
        end = self.start + n
        subs = self.subs[: end // SUB_TOKENS - self.start // SUB_TOKENS]
        return PlayedTokens(self.start, n, end, subs, end, (subs, n))

    def begins(self, subs: tuple[int, ...]) -> bool:
        """Whether its tokens begin with these."""
        return self.subs[: len(subs)] == subs

    def holder(self, tail: PlayedTokens) -> PlayedBlock | None:
        """A block behind this one that begins with a tail."""
        if (known := self.children.get(tail.key)) is not None or not tail.is_common:
            return known
        for child in self.children.values():
            is_longer = tail.end <= child.piece.common_end and child.begins(tail.subs)
            if is_longer and (tail.subs or child.n == tail.n):
                return child
        return None

    def tails_of(self, made: PlayedBlock) -> list[PlayedBlock]:
        """The ends of paths behind this one that a longer block begins with."""
        return [
            each
            for each in self.children.values()
            if each.n < made.n and not each.children and each.piece.is_common
            if each.subs and made.begins(each.subs)
        ]


@dataclass(eq=False, slots=True, kw_only=True)
class PlayedCheckpoint(PlayedPart):
    """The layers that can't be cut, behind one token."""

    block: PlayedBlock
    end: int


Part = PlayedBlock | PlayedCheckpoint


@dataclass(frozen=True, slots=True)
class Places:
    """Tokens of a prompt, where digests say nothing of those between two blocks of 32."""

    boundaries: Sequence[int] = ()
    """Where others may part from it, ascending."""
    parted: Sequence[int] = ()
    """Where others did, what is surest first."""


NOWHERE = Places()


@dataclass(frozen=True, slots=True)
class PlayedMatch:
    """What of a prompt is known."""

    block: PlayedBlock | None = None
    n_tokens: int = 0
    checkpoint: PlayedCheckpoint | None = None


def split(
    path: Sequence[int], n_tokens: int, shared_tokens: int, common_tokens: float
) -> list[PlayedTokens]:
    """The blocks of a state; one ends where its system prompt does."""
    cut = shared_tokens if 4 * shared_tokens >= BLOCK_TOKENS else 0
    pieces, at = [], 0
    while at < n_tokens:
        end = cut if at < cut < at + BLOCK_TOKENS else at + BLOCK_TOKENS
        pieces.append(piece_of(path, at, min(end, n_tokens) - at, common_tokens))
        at = end
    return pieces


def is_idle_end(part: Part) -> bool:
    """Whether it is there, nobody has leased it, and nothing relies on it."""
    if part.leases or not part.is_held:
        return False
    if isinstance(part, PlayedCheckpoint):
        return True
    return part.parent is not None and not part.children and not part.checkpoints


def is_worth_keeping(victim: Part) -> bool:
    """Whether a block alone holds the end of a system prompt, and more."""
    if not isinstance(victim, PlayedBlock) or not victim.is_cuttable or victim.parent is None:
        return False
    if not 0 < victim.shared < victim.n:
        return False
    subs = victim.first(victim.shared).subs
    siblings = victim.parent.children.values()
    return sum(each.n >= victim.shared and each.begins(subs) for each in siblings) == 1


def usable(block: PlayedBlock, known: int) -> PlayedMatch:
    """What a block gives of a prompt that it knows up to a token."""
    if block.is_cuttable:
        return PlayedMatch(block, known) if known > block.start else PlayedMatch()
    end = max((end for end in block.checkpoints if end <= known), default=None)
    return PlayedMatch() if end is None else PlayedMatch(block, end, block.checkpoints[end])


def n_common(block: PlayedBlock, rest: Sequence[int], places: Places) -> int:
    """Up to which token of a prompt a block knows it; rests of small blocks are estimated."""
    n = 0
    for own, other in zip(block.subs, rest, strict=False):
        if own != other:
            break
        n += 1
    ended = (block.start // SUB_TOKENS + n) * SUB_TOKENS
    known, most = max(block.start, ended), min(ended + SUB_TOKENS - 1, block.piece.common_end)
    for told in places.parted:
        if told and known <= told <= most:
            return told
    if n == len(block.subs) and n:
        return block.piece.common_end
    # Prompts part where a message begins, if at all.
    return max([known, *(each for each in places.boundaries if known < each <= most)])
