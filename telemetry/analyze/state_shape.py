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

    @property
    def is_cuttable(self) -> bool:
        """Whether a state can be cut back: all layers keep all tokens."""
        return not self.fixed_bytes and not self.window_tokens

    def block_bytes(self, n_tokens: int) -> float:
        """Of a block, in the layers that can be cut."""
        return n_tokens * self.token_bytes

    def checkpoint_bytes(self, n_tokens: int) -> float:
        """Of the other layers behind so many tokens."""
        return self.fixed_bytes + self.window_bytes * min(n_tokens, self.window_tokens)
