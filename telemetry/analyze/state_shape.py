"""What a KV state takes, by the kinds of a model's layers. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateShape:
    """What a state takes, in bytes."""

    token_bytes: float = 1.0
    """Of each token, in the layers that keep all of them."""
    window_tokens: int = 0
    """How far back the other layers look; 0 if there are none."""
    window_bytes: float = 0.0
    """Of each token in their window."""
    fixed_bytes: float = 0.0
    """Of running states."""

    def is_cuttable(self, n_tokens: int) -> bool:
        """Whether a state of so many tokens can be cut back: nothing has left a window yet."""
        return not self.fixed_bytes and (not self.window_tokens or n_tokens <= self.window_tokens)

    def block_bytes(self, n_tokens: int, *, is_cuttable: bool) -> float:
        """Of a block; with all layers, if it can be cut."""
        return n_tokens * (self.token_bytes + self.window_bytes * is_cuttable)

    def checkpoint_bytes(self, n_tokens: int) -> float:
        """Of the other layers behind so many tokens."""
        return self.fixed_bytes + self.window_bytes * min(n_tokens, self.window_tokens)
