"""States of an echo engine whose model is of another kind: for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


KINDS: dict[str, type[EchoStates]] = {"plain": EchoStates, "recurrent": Recurrent, "mixed": Mixed}
