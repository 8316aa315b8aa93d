"""Who is guessed for in a batch, and by what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from mlxdeck.server.backends.local.engine.speculation.payoff import Acceptance, Payoff


class Drafter(Protocol):
    """Guesses what one sequence goes on with."""

    @property
    def length(self) -> int:
        """How many tokens speak for the next guess; one more with each token, at most."""

    def token_share(self, pass_s: float | None) -> float:
        """What one guessed token costs, of a pass that takes so long; None if that isn't known."""

    def index(self) -> None:
        """Get ready, while the model runs."""

    def feed(self, token: int) -> None:
        """Take the next token of the answer."""

    def draft(self, most_tokens: int) -> list[int]:
        """Guess."""


class NoGuess:
    """A drafter that never guesses."""

    length = 0

    def token_share(self, pass_s: float | None) -> float:
        """Nothing is computed."""
        del pass_s
        return 0.0

    def index(self) -> None:
        """Nothing has to be made."""

    def feed(self, token: int) -> None:
        """Nothing is kept."""

    def draft(self, most_tokens: int) -> list[int]:
        """Nothing is known."""
        return []


@dataclass(slots=True)
class Speculating:
    """A sequence that is guessed for."""

    drafter: Drafter
    acceptance: Acceptance
    n_drafted: int = 0
    n_accepted: int = 0
    n_forced: int = 0
    """All since they were last taken."""

    def settle(self, n_forced: int, match_length: int, n_tokens: int, n_agreed: int) -> None:
        """Count a draft of which some tokens were drawn, too. The forced ones are no guesses."""
        n_certain = min(n_forced, n_agreed)
        n_guessed, n_right = n_tokens - n_forced, n_agreed - n_certain
        self.n_forced += n_certain
        self.n_drafted += n_guessed
        self.n_accepted += n_right
        if n_guessed:
            self.acceptance.note(match_length, n_guessed, n_right)

    def take(self) -> tuple[int, int, int]:
        """Drafted, accepted and forced tokens since the last call."""
        found = self.n_drafted, self.n_accepted, self.n_forced
        self.n_drafted = self.n_accepted = self.n_forced = 0
        return found


@dataclass(slots=True)
class Speculation:
    """What the batches of one engine share."""

    payoff: Payoff
    stops: frozenset[int] = frozenset()
    """Tokens that end an answer: nothing is guessed behind them."""
    forces: bool = True
    """Whether what a grammar forces is a draft."""
    sequences: dict[int, Speculating] = field(default_factory=dict)
    n_others: int = 0
    """Counted up when anything else is computed, so that times can't be compared."""
