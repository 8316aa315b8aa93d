"""Blocks and checkpoints of a cache that is played with numbers in place of states. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS

BLOCK_TOKENS = 256
SUBS = BLOCK_TOKENS // SUB_TOKENS


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

    @property
    def end(self) -> int:
        """Number of tokens of the whole path."""
        return self.start + self.n

    def path(self) -> list[PlayedBlock]:
        """From the first block to this one."""
        found = []
        each: PlayedBlock | None = self
        while each is not None and each.parent is not None:
            found.append(each)
            each = each.parent
        return found[::-1]

    def begins(self, subs: tuple[int, ...]) -> bool:
        """Whether its tokens begin with these."""
        return self.subs[: len(subs)] == subs

    def holder(self, subs: tuple[int, ...], n: int, key: object) -> PlayedBlock | None:
        """A block behind this one that begins with the `n` tokens of a tail."""
        if (known := self.children.get(key)) is not None:
            return known
        for child in self.children.values():
            if child.n >= n and child.begins(subs) and (subs or child.n == n):
                return child
        return None

    def tails_of(self, made: PlayedBlock) -> list[PlayedBlock]:
        """The ends of paths behind this one that a longer block begins with."""
        return [
            each
            for each in self.children.values()
            if each.n < made.n and not each.children and each.subs and made.begins(each.subs)
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
    """Where others did."""


NOWHERE = Places()


@dataclass(frozen=True, slots=True)
class PlayedMatch:
    """What of a prompt is known."""

    block: PlayedBlock | None = None
    n_tokens: int = 0
    checkpoint: PlayedCheckpoint | None = None


def split(n_tokens: int, shared_tokens: int) -> list[int]:
    """Sizes of a state's blocks; one ends where its system prompt does, about."""
    cut = shared_tokens // SUB_TOKENS * SUB_TOKENS if 4 * shared_tokens >= BLOCK_TOKENS else 0
    sizes, at = [], 0
    while at < n_tokens:
        end = cut if at < cut < at + BLOCK_TOKENS else at + BLOCK_TOKENS
        sizes.append(min(end, n_tokens) - at)
        at = end
    return sizes


def subs_of(path: Sequence[int], start: int, n: int) -> tuple[int, ...]:
    """The numbers of the smaller blocks of `n` tokens."""
    first = start // SUB_TOKENS
    return tuple(path[first : first + n // SUB_TOKENS])


def key_of(subs: tuple[int, ...], n: int) -> object:
    """What a block is called among those behind the same one."""
    return subs[-1] if n == BLOCK_TOKENS and len(subs) == SUBS else (subs, n)


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
    subs = victim.subs[: victim.shared // SUB_TOKENS]
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
    known = block.start + n * SUB_TOKENS
    most = min(known + SUB_TOKENS - 1, block.end)
    if told := [each for each in places.parted if known <= each <= most and each]:
        return max(told)
    if n == len(block.subs) and n:
        return block.end
    # Prompts part where a message begins, if at all.
    return max([known, *(each for each in places.boundaries if known < each <= most)])
