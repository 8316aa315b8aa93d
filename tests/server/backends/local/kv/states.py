"""States of an echo engine whose model is of another kind: for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlxdeck.server.backends.local.engine.api import PackedPart
from mlxdeck.server.backends.local.engine.echo import TOKEN_BYTES, EchoStates

WINDOW_TOKENS = 5


class Recurrent(EchoStates):
    """Nothing can be cut: blocks are empty, a checkpoint is all of a state."""

    def is_cuttable(self, state: Any) -> bool:
        """Never."""
        return False

    def block_bytes(self, state: Any, start: int, end: int) -> int:
        """Nothing."""
        return 0

    def block(self, state: Any, start: int, end: int) -> Any:
        """Nothing."""
        return ()

    def checkpoint_bytes(self, state: Any) -> int:
        """Eight bytes a token."""
        return TOKEN_BYTES * len(state)

    def checkpoint(self, state: Any) -> Any:
        """All of it."""
        return tuple(state)

    def lease(self, blocks: Sequence[Any], n_tokens: int, checkpoint: Any) -> Any:
        """The checkpoint, which is exactly of these tokens."""
        assert len(checkpoint) == n_tokens
        return checkpoint


class Mixed(EchoStates):
    """Some layers are cut into blocks, others keep a window of the last tokens."""

    def is_cuttable(self, state: Any) -> bool:
        """Not without the window."""
        return False

    def checkpoint_bytes(self, state: Any) -> int:
        """Of the window."""
        return TOKEN_BYTES * len(state[-WINDOW_TOKENS:])

    def checkpoint(self, state: Any) -> Any:
        """The last tokens."""
        return tuple(state[-WINDOW_TOKENS:])

    def lease(self, blocks: Sequence[Any], n_tokens: int, checkpoint: Any) -> Any:
        """Both say the same of the last tokens."""
        found = super().lease(blocks, n_tokens, None)
        assert found[-WINDOW_TOKENS:] == checkpoint
        return found


class Small(tuple[int, ...]):
    """A block in 8 bits."""


class SmallStates(EchoStates):
    """Blocks can be quantised, and then take a fourth."""

    def __init__(self) -> None:
        self.n_tried = 0

    def can_be(self, part: tuple[int, ...]) -> bool:
        """Any."""
        return True

    def quantized(self, part: Any) -> Any:
        """Once."""
        assert not isinstance(part, Small)
        self.n_tried += 1
        return Small(part) if self.can_be(part) else None

    def is_quantized(self, part: Any) -> bool:
        """By its class."""
        return isinstance(part, Small)

    def size_bytes(self, part: Any) -> int:
        """Two bytes a token, or eight."""
        return TOKEN_BYTES * len(part) // (4 if isinstance(part, Small) else 1)

    def cut(self, block: Any, n_tokens: int) -> Any:
        """As precise as before."""
        return type(block)(block[:n_tokens])

    def pack(self, part: Any) -> PackedPart:
        """Its class is told."""
        return PackedPart(type(part).__name__, super().pack(part).buffers)

    def restore(self, about: str, data: Any) -> Any:
        """Of the class that was told."""
        found = super().restore(about, data)
        return Small(found) if about == Small.__name__ else found


KINDS: dict[str, type[EchoStates]] = {"plain": EchoStates, "recurrent": Recurrent, "mixed": Mixed}
