"""The index of KV states: a tree of blocks of tokens, which RAM and disk share.

A state is a path of the tree: full blocks, and a tail that is shorter. A block also ends where the
system prompt does, so that none of it lies in what follows. A block's key is a chained hash of how
it was computed: the model and its settings, the block before, the tokens. In which precision it
lies is no part of that. States that begin alike share their blocks.

Layers that can't be cut back are kept as checkpoints: what they hold behind one token. A state of
such a model needs the checkpoint and the blocks up to it.

Every method is called with `lock` held. No array is touched here.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlxdeck.server.backends.local.kv.token_bytes import TOKEN_BYTES, n_common, n_tokens

BLOCK_TOKENS = 256
KEY_BYTES = 16


def root_key(signature: str, adapter: str = "") -> bytes:
    """The key before all tokens: the model, what determines a state's form, and an adapter."""
    told = hashlib.sha256(signature.encode() + b"\0" + adapter.encode())
    return told.digest()[:KEY_BYTES]


def block_key(previous: bytes, tokens: bytes, images: bytes = b"") -> bytes:
    """The key of a block; `images` is a hash of those that its tokens stand for."""
    told = hashlib.blake2b(previous, digest_size=KEY_BYTES, key=images[:64])
    told.update(tokens)
    return told.digest()


@dataclass(frozen=True, slots=True)
class FileRange:
    """Where a part lies on disk."""

    file: str
    offset: int
    n_bytes: int
    digest: bytes
    about: str
    """What its bytes mean; only the engine reads it."""


@dataclass(eq=False, slots=True, kw_only=True)
class KVPart:
    """What is kept, evicted and written: a block or a checkpoint."""

    data: Any = None
    """As the engine made it; None if it is not in RAM."""
    n_bytes: int = 0
    """Of `data`."""
    is_quantized: bool = False
    """Whether `data` lies in 8 bits."""
    stays_exact: bool = False
    """Whether the engine can't put it into 8 bits."""
    used_s: float = 0.0
    """When it was last stored or used, of the monotonic clock."""
    place: FileRange | None = None
    rank: float = 0.0
    last_use: int = 0
    """When it was last stored or used, by the cache's count of uses."""
    n_uses: int = 0
    n_leases: int = 0
    due_s: float = math.inf
    """When its state is to be written, of the monotonic clock; infinite if it isn't."""


@dataclass(eq=False, slots=True, kw_only=True)
class Checkpoint(KVPart):
    """The layers that can't be cut, behind the first `end_tokens` of a prompt."""

    block: TokenBlock
    """The one that holds the last of these tokens."""
    end_tokens: int


@dataclass(eq=False, slots=True, kw_only=True)
class TokenBlock(KVPart):
    """A run of tokens behind others."""

    key: bytes
    parent: TokenBlock | None = None
    tokens: bytes = b""
    start_tokens: int = 0
    shared_tokens: int = 0
    """So many of its first tokens belong to a system prompt."""
    is_cuttable: bool = True
    """Whether a prefix is as good as the whole, without a checkpoint."""
    children: dict[bytes, TokenBlock] = field(default_factory=dict)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    n_on_top: int = 0
    """Children and checkpoints that are in RAM."""

    @property
    def end_tokens(self) -> int:
        """Number of tokens of the whole path."""
        return self.start_tokens + n_tokens(self.tokens)

    def path(self) -> list[TokenBlock]:
        """From the first block to this one."""
        found: list[TokenBlock] = []
        block: TokenBlock | None = self
        while block is not None and block.parent is not None:
            found.append(block)
            block = block.parent
        return found[::-1]


Usable = Callable[[KVPart], bool]


def in_ram(part: KVPart) -> bool:
    """Whether it can be leased."""
    return part.data is not None


def anywhere(part: KVPart) -> bool:
    """Whether it can be had at all."""
    return part.data is not None or part.place is not None


@dataclass(frozen=True, slots=True)
class Match:
    """The longest known prefix of a prompt."""

    block: TokenBlock
    n_tokens: int
    checkpoint: Checkpoint | None = None


class BlockTree:
    """All blocks that are known."""

    def __init__(self, signature: str = "", block_tokens: int = BLOCK_TOKENS) -> None:
        """`signature` covers everything that determines a state's form."""
        self.lock = threading.RLock()
        self.block_tokens = block_tokens
        self.root = TokenBlock(key=root_key(signature), data=())
        self.by_key = {self.root.key: self.root}
        self.n_in_ram = 0
        """Blocks, not checkpoints."""
        self.n_bytes = 0
        """Of what is in RAM."""
        self.n_quantized_bytes = 0
        """Those of them that lie in 8 bits."""
        self.n_checkpoints = 0
        self.n_leaves = 0
        """Blocks in RAM with none behind them."""

    def split(self, tokens: bytes, shared_tokens: int = 0) -> Iterator[bytes]:
        """The blocks of a state; one ends where its system prompt does.

        What follows a system prompt differs from state to state: those blocks hold nothing of it.
        """
        step, at = self.block_tokens * TOKEN_BYTES, 0
        cut = shared_tokens * TOKEN_BYTES if shared_tokens * 4 >= self.block_tokens else 0
        while at < len(tokens):
            end = cut if at < cut < at + step else at + step
            yield tokens[at:end]
            at = min(end, len(tokens))

    def exact(self, pieces: Sequence[bytes], usable: Usable) -> list[TokenBlock]:
        """The path of these blocks, as far as it is there; never with a tail."""
        path: list[TokenBlock] = []
        block = self.root
        for n, piece in enumerate(pieces, 1):
            found = block.children.get(block_key(block.key, piece))
            is_tail = n == len(pieces) and n_tokens(piece) < self.block_tokens
            if is_tail or found is None or not usable(found):
                break
            path.append(found)
            block = found
        return path

    def find(self, tokens: bytes, usable: Usable) -> Match | None:
        """The longest known prefix, which may end inside a block."""
        best: Match | None = None
        whole = sorted(self._whole(tokens, usable), key=lambda each: -each.end_tokens)
        for block in whole:
            if best is not None and best.n_tokens >= block.end_tokens + self.block_tokens:
                break
            rest = tokens[block.end_tokens * TOKEN_BYTES :]
            for child in block.children.values():
                found = _matched(child, rest, usable) if usable(child) else None
                if found and (best is None or found.n_tokens > best.n_tokens):
                    best = found
        return best

    def _whole(self, tokens: bytes, usable: Usable) -> list[TokenBlock]:
        """The root, and all blocks with others behind them that a prompt holds whole."""
        step = self.block_tokens * TOKEN_BYTES
        found = [self.root]
        for block in found:
            start = block.end_tokens * TOKEN_BYTES
            piece = tokens[start : start + step]
            full = block.children.get(block_key(block.key, piece)) if len(piece) == step else None
            if full is not None and usable(full):
                found.append(full)
            # Ends of system prompts.
            for child in block.children.values():
                is_short = child.children and len(child.tokens) < step
                if is_short and usable(child) and piece.startswith(child.tokens):
                    found.append(child)
        return found

    def holder(self, parent: TokenBlock, tokens: bytes, usable: Usable) -> TokenBlock | None:
        """A block behind `parent` that begins with these tokens."""
        exact = parent.children.get(block_key(parent.key, tokens))
        if exact is not None and usable(exact):
            return exact
        for child in parent.children.values():
            if usable(child) and child.tokens.startswith(tokens):
                return child
        return None

    def begins(self, tokens: bytes) -> list[TokenBlock]:
        """The first blocks of all paths that a prompt may have begun with."""
        piece = next(self.split(tokens), b"")
        return [
            each
            for each in self.root.children.values()
            if piece and (each.tokens.startswith(piece) or piece.startswith(each.tokens))
        ]

    def put(self, parent: TokenBlock, tokens: bytes, *, is_cuttable: bool) -> TokenBlock:
        """The block of these tokens behind `parent`, made if it isn't there."""
        key = block_key(parent.key, tokens)
        block = parent.children.get(key)
        if block is None:
            block = TokenBlock(
                key=key,
                parent=parent,
                tokens=tokens,
                start_tokens=parent.end_tokens,
                is_cuttable=is_cuttable,
            )
            parent.children[key] = self.by_key[key] = block
        return block

    def put_checkpoint(self, block: TokenBlock, end_tokens: int) -> Checkpoint:
        """The checkpoint there, made if it isn't."""
        found = block.checkpoints.get(end_tokens)
        if found is None:
            found = block.checkpoints[end_tokens] = Checkpoint(block=block, end_tokens=end_tokens)
        return found

    def rests_on_ram(self, part: KVPart) -> bool:
        """Whether a part is in the tree, and all that it relies on is in RAM."""
        if isinstance(part, Checkpoint):
            known = part.block.checkpoints.get(part.end_tokens)
            return known is part and in_ram(part.block)
        assert isinstance(part, TokenBlock)
        return self.by_key.get(part.key) is part and part.parent is not None and in_ram(part.parent)

    def fill(self, part: KVPart, data: Any, n_bytes: int, *, is_quantized: bool = False) -> None:
        """Put a part into RAM."""
        if part.data is not None:
            return
        self._set_data(part, data, n_bytes, is_quantized=is_quantized)
        self._count(part, 1)

    def quantize(self, part: KVPart, data: Any, n_bytes: int) -> None:
        """Let a part that is in RAM lie in 8 bits."""
        self._set_data(part, data, n_bytes, is_quantized=True)

    def _set_data(
        self, part: KVPart, data: Any, n_bytes: int, *, is_quantized: bool = False
    ) -> None:
        self.n_bytes += n_bytes - part.n_bytes
        self.n_quantized_bytes += is_quantized * n_bytes - part.is_quantized * part.n_bytes
        part.data, part.n_bytes, part.is_quantized = data, n_bytes, is_quantized

    def drop(self, part: KVPart) -> None:
        """Take a part out of RAM; forget it if it isn't on disk."""
        if part.data is not None:
            self._count(part, -1)
            self._set_data(part, None, 0)
            part.due_s = math.inf
        self.forget(part)

    def _count(self, part: KVPart, by: int) -> None:
        if isinstance(part, Checkpoint):
            self.n_checkpoints += by
            self._put_on(part.block, by)
        elif isinstance(part, TokenBlock) and part.parent is not None:
            self.n_leaves += by
            self.n_in_ram += by
            self._put_on(part.parent, by)

    def _put_on(self, block: TokenBlock, by: int) -> None:
        """One part more or less relies on a block."""
        was_leaf = not block.n_on_top
        block.n_on_top += by
        if block is not self.root:
            self.n_leaves += (not block.n_on_top) - was_leaf

    def forget(self, part: KVPart) -> None:
        """Take a part that is nowhere out of the tree, and what is then useless below it."""
        if anywhere(part):
            return
        if isinstance(part, Checkpoint):
            if part.block.checkpoints.get(part.end_tokens) is part:
                del part.block.checkpoints[part.end_tokens]
            return
        assert isinstance(part, TokenBlock)
        parent = part.parent
        if part.children or parent is None:
            return
        # Checkpoints on disk that it took over are still of use behind a tail that is there too.
        for tail in self.superseded(part) if part.checkpoints else ():
            if anywhere(tail):
                self.move_checkpoints(part, tail)
        if part.checkpoints:
            return
        if parent.children.get(part.key) is part:
            del parent.children[part.key], self.by_key[part.key]
            self.forget(parent)

    def move_checkpoints(self, old: TokenBlock, new: TokenBlock) -> None:
        """Let a block hold those checkpoints of another that lie in what both begin with."""
        for end_tokens, checkpoint in list(old.checkpoints.items()):
            if end_tokens > new.end_tokens:
                continue
            del old.checkpoints[end_tokens]
            if checkpoint.data is not None:
                self._put_on(old, -1)
            known = new.checkpoints.get(end_tokens)
            if known is None:
                checkpoint.block = new
                new.checkpoints[end_tokens] = checkpoint
                if checkpoint.data is not None:
                    self._put_on(new, 1)
            elif checkpoint.data is not None:
                self.n_checkpoints -= 1
                self.n_bytes -= checkpoint.n_bytes
                checkpoint.data = None

    def superseded(self, block: TokenBlock) -> list[TokenBlock]:
        """Tails that a block begins with."""
        parent = block.parent
        assert parent is not None
        return [
            each
            for each in parent.children.values()
            if each is not block and not each.children and block.tokens.startswith(each.tokens)
        ]

    def below(self, block: TokenBlock) -> Iterator[TokenBlock]:
        """A block and all behind it, those behind first."""
        stack = [block]
        found = []
        while stack:
            each = stack.pop()
            found.append(each)
            stack += each.children.values()
        return reversed(found)

    def blocks(self) -> Iterator[TokenBlock]:
        """All blocks, those behind others first."""
        return (each for each in self.below(self.root) if each is not self.root)

    def parts(self) -> Iterator[KVPart]:
        """All blocks and checkpoints."""
        for block in self.blocks():
            yield from block.checkpoints.values()
            yield block

    @property
    def n_states(self) -> int:
        """How many states are in RAM."""
        return self.n_checkpoints or self.n_leaves


def _matched(block: TokenBlock, rest: bytes, usable: Usable) -> Match | None:
    """How much a block knows of the tokens behind its parent."""
    end = block.start_tokens + n_common(block.tokens, rest)
    if block.is_cuttable:
        return Match(block, end) if end > block.start_tokens else None
    known = (each for each in block.checkpoints.values() if each.end_tokens <= end and usable(each))
    best = max(known, key=lambda each: each.end_tokens, default=None)
    return Match(block, best.end_tokens, best) if best is not None else None


def path_of(end: KVPart) -> list[KVPart]:
    """All that a state needs, by its end: blocks, and the checkpoint if it is one."""
    if isinstance(end, Checkpoint):
        return [*end.block.path(), end]
    assert isinstance(end, TokenBlock)
    return list(end.path())
