"""Puts blocks that nobody has used for a moment into 8 bits, where the engine can.

A block is quantised once. It stays so until it is given up, in RAM and on disk: what a lease
computes with is made of it when the lease is copied into a batch. Tails stay exact: the next turn
stores their tokens anew, as a part of a longer block.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from mlxdeck.server.backends.local.engine.api import States
from mlxdeck.server.backends.local.kv.blocks import BlockTree, TokenBlock, in_ram
from mlxdeck.server.backends.local.kv.leases import Leases
from mlxdeck.server.backends.local.kv.token_bytes import n_tokens
from mlxdeck.server.backends.local.kv.write_queue import QUIET_S

STEP_BYTES = 64 * 1024**2
"""Of exact blocks that are quantised between two steps of the engine, about."""


class Cooling:
    """Of one index."""

    def __init__(self, tree: BlockTree, leases: Leases, states: States) -> None:
        self.n_quantized = 0
        """Blocks that were put into 8 bits."""
        self._tree = tree
        self._leases = leases
        self._states = states

    def due(self) -> Sequence[TokenBlock]:
        """Blocks that can be quantised now. Any thread."""
        until_s = time.monotonic() - QUIET_S
        with self._tree.lock:
            held = self._leases.held()
            return [
                block
                for block in self._tree.blocks()
                if self._is_exact(block) and block.used_s <= until_s and id(block) not in held
            ]

    def _is_exact(self, block: TokenBlock) -> bool:
        # A system prompt's end is short, and stays as it is too.
        is_settled = n_tokens(block.tokens) == self._tree.block_tokens or bool(block.children)
        return is_settled and in_ram(block) and not (block.is_quantized or block.stays_exact)

    def quantize(self, due: Sequence[TokenBlock]) -> Sequence[TokenBlock]:
        """Quantise the first of these; return those that are left. Engine thread."""
        n_bytes, held = 0, self._leases.held()
        for n, block in enumerate(due):
            if n_bytes >= STEP_BYTES:
                return due[n:]
            # A lease holds what is exact, beside what would be made here.
            if id(block) not in held:
                n_bytes += self._quantize(block)
        return ()

    def _quantize(self, block: TokenBlock) -> int:
        """Return the bytes that were read."""
        with self._tree.lock:
            if not self._is_exact(block):
                return 0
            exact, exact_bytes = block.data, block.n_bytes
        made = self._states.quantized(exact)
        n_bytes = self._states.size_bytes(made) if made is not None else 0
        with self._tree.lock:
            if made is None:
                block.stays_exact = True
            elif block.data is exact:
                self._tree.quantize(block, made, n_bytes)
                self.n_quantized += 1
        return exact_bytes
