"""KV states for the caches: every error becomes `EngineFailed`.

Where memory is short, a library may raise any exception, on each thread that holds states. Caches
only distinguish bytes that are no state, and a state that isn't available now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mlxdeck.server.backends.local.engine.api import PackedPart, State, StatePart, States
from mlxdeck.server.errors import EngineFailed, one_line

log = logging.getLogger(__name__)

T = TypeVar("T")


class GuardedStates:
    """The `States` of an engine."""

    def __init__(self, states: States) -> None:
        self._states = states

    def is_cuttable(self, state: State) -> bool:
        """Whether blocks alone make a state."""
        return _guarded(lambda: self._states.is_cuttable(state))

    def block_bytes(self, state: State, start: int, end: int) -> int:
        """Memory of a block."""
        return _guarded(lambda: self._states.block_bytes(state, start, end))

    def checkpoint_bytes(self, state: State) -> int:
        """Memory of a checkpoint."""
        return _guarded(lambda: self._states.checkpoint_bytes(state))

    def block(self, state: State, start: int, end: int) -> StatePart:
        """Copy a block."""
        return _guarded(lambda: self._states.block(state, start, end))

    def checkpoint(self, state: State) -> StatePart:
        """Copy what can't be cut."""
        return _guarded(lambda: self._states.checkpoint(state))

    def cut(self, block: StatePart, n_tokens: int) -> StatePart:
        """Copy the first tokens of a block."""
        return _guarded(lambda: self._states.cut(block, n_tokens))

    def quantized(self, part: StatePart) -> StatePart | None:
        """A block in 8 bits."""
        return _guarded(lambda: self._states.quantized(part))

    def is_quantized(self, part: StatePart) -> bool:
        """Whether a part lies in 8 bits."""
        return _guarded(lambda: self._states.is_quantized(part))

    def size_bytes(self, part: StatePart) -> int:
        """Memory that a part takes."""
        return _guarded(lambda: self._states.size_bytes(part))

    def lease(
        self, blocks: Sequence[StatePart], n_tokens: int, checkpoint: StatePart | None
    ) -> State:
        """A state of blocks."""
        return _guarded(lambda: self._states.lease(blocks, n_tokens, checkpoint))

    def pack(self, part: StatePart) -> PackedPart:
        """A part as bytes."""
        return _guarded(lambda: self._states.pack(part))

    def restore(self, about: str, data: Any) -> StatePart:
        """Make a part of bytes."""
        return _guarded(lambda: self._states.restore(about, data))


def _guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except EngineFailed:
        raise
    # The edge of the engine's library: its exceptions are none of the caches'.
    except BaseException as error:
        log.warning("a KV state failed", exc_info=error)
        reason = one_line(error)
    # Out here, so that the new one doesn't hold the old one's frames, and with them arrays.
    raise EngineFailed(f"a KV state failed: {reason}")
