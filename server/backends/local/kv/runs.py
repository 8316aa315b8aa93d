"""Which parts of a state share a file: what is evicted together should be used together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlxdeck.server.backends.local.kv.blocks import Checkpoint, KVPart, TokenBlock
from mlxdeck.server.backends.local.kv.token_bytes import n_tokens

RUN_BYTES = 256 * 1024**2
"""Of a file, about."""
READ_BYTES = 32 * 1024**2
"""Of parts that are made into arrays between two steps, about."""


def in_runs(parts: Sequence[KVPart], block_tokens: int) -> Iterator[list[KVPart]]:
    """Parts of a path in order, a list for each file.

    The system prompt's blocks are apart from what follows them. What a longer block may supersede
    is alone: a tail, and the end of a system prompt. So is a checkpoint.
    """
    run: list[KVPart] = []
    for part in parts:
        kind = _kind(part, block_tokens)
        is_other = bool(run) and kind != _kind(run[-1], block_tokens)
        if is_other or sum(each.n_bytes for each in run) >= RUN_BYTES:
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def in_reads(parts: Sequence[KVPart]) -> Iterator[list[KVPart]]:
    """Parts on disk in order, a list for each time that arrays are made of some."""
    read: list[KVPart] = []
    for part in parts:
        n_bytes = sum(each.place.n_bytes for each in read if each.place)
        if read and n_bytes >= READ_BYTES:
            yield read
            read = []
        read.append(part)
    if read:
        yield read


def _kind(part: KVPart, block_tokens: int) -> str:
    if isinstance(part, Checkpoint):
        return "checkpoint"
    assert isinstance(part, TokenBlock)
    n = n_tokens(part.tokens)
    is_system = part.shared_tokens == n
    if n < block_tokens:
        return "system's end" if is_system else "tail"
    return "system" if is_system else "full"
