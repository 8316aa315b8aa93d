"""Whether the index adds up: bytes, references, leases, files. Asked by tests, and when idle.

Also what the states would take if each had all of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mlxdeck.server.backends.local.kv.blocks import (
    BlockTree,
    Checkpoint,
    KVPart,
    TokenBlock,
    anywhere,
    block_key,
    in_ram,
)
from mlxdeck.server.backends.local.kv.leases import Leases
from mlxdeck.server.backends.local.kv.token_bytes import n_tokens


def logical_bytes(tree: BlockTree) -> int:
    """Bytes of all states in RAM, with what they share counted for each of them.

    Of what is changed meanwhile, some of it: nobody waits for this.
    """
    with tree.lock:
        blocks = [*tree.blocks()]
    n_ends: Counter[bytes] = Counter()
    total = 0
    for block in blocks:
        if not in_ram(block):
            continue
        held = [each for each in [*block.checkpoints.values()] if in_ram(each)]
        n = n_ends[block.key] + len(held)
        if block.is_cuttable and not n:
            n = 1
        total += n * block.n_bytes + sum(each.n_bytes for each in held)
        if (parent := block.parent) is not None:
            n_ends[parent.key] += n
    return total


def check_integrity(tree: BlockTree, leases: Leases) -> list[str]:
    """What doesn't add up; empty if all does. Any thread."""
    with tree.lock:
        found = [*_totals(tree), *_leases(tree, leases)]
        n_keys = 1
        for block in tree.blocks():
            n_keys += 1
            found += _wrong_with(tree, block)
        if n_keys != len(tree.by_key):
            found.append(f"{len(tree.by_key)} keys of {n_keys} blocks")
        return found


def _totals(tree: BlockTree) -> Iterator[str]:
    parts = [part for part in tree.parts() if in_ram(part)]
    blocks = [part for part in parts if isinstance(part, TokenBlock)]
    leaves = [block for block in blocks if not _n_on_top(block)]
    for name, counted, is_so in (
        ("bytes", tree.n_bytes, sum(part.n_bytes for part in parts)),
        ("bytes in 8 bits", tree.n_quantized_bytes, sum(map(_quantized_bytes, parts))),
        ("blocks", tree.n_in_ram, len(blocks)),
        ("checkpoints", tree.n_checkpoints, len(parts) - len(blocks)),
        ("leaves", tree.n_leaves, len(leaves)),
    ):
        if counted != is_so:
            yield f"{counted} {name} are counted, and there are {is_so}"


def _quantized_bytes(part: KVPart) -> int:
    return part.n_bytes if part.is_quantized else 0


def _leases(tree: BlockTree, leases: Leases) -> Iterator[str]:
    held = leases.counts()
    for part in (tree.root, *tree.parts()):
        if part.n_leases != held.get(id(part), 0):
            yield f"{part.n_leases} leases of a part are counted: {held.get(id(part), 0)} are out"


def _wrong_with(tree: BlockTree, block: TokenBlock) -> Iterator[str]:
    parent = block.parent
    where = f"the block at token {block.start_tokens}"
    if parent is None or parent.children.get(block.key) is not block:
        yield f"{where} is not where its parent has it"
        return
    if tree.by_key.get(block.key) is not block or block.key != block_key(parent.key, block.tokens):
        yield f"{where} has another's key"
    if block.start_tokens != parent.end_tokens:
        yield f"{where} is not where its parent ends"
    if not 0 < n_tokens(block.tokens) <= tree.block_tokens:
        yield f"{where} has {n_tokens(block.tokens)} tokens"
    if in_ram(block) and not in_ram(parent):
        yield f"{where} is in RAM, and not what it relies on"
    if block.n_on_top != _n_on_top(block):
        yield f"{where} counts {block.n_on_top} that rely on it, and there are {_n_on_top(block)}"
    if not anywhere(block) and not block.children and not block.checkpoints:
        yield f"{where} is nowhere"
    for checkpoint in block.checkpoints.values():
        yield from _wrong_with_checkpoint(block, checkpoint, where)


def _wrong_with_checkpoint(block: TokenBlock, checkpoint: Checkpoint, where: str) -> Iterator[str]:
    if checkpoint.block is not block:
        yield f"a checkpoint in {where} belongs to another"
    if not block.start_tokens < checkpoint.end_tokens <= block.end_tokens:
        yield f"a checkpoint in {where} lies outside of it"
    if in_ram(checkpoint) and not in_ram(block):
        yield f"a checkpoint is in RAM, and not {where}"


def _n_on_top(block: TokenBlock) -> int:
    on_top: list[KVPart] = [*block.children.values(), *block.checkpoints.values()]
    return sum(map(in_ram, on_top))
