"""What the next pass reads of each row behind its last token: a guess, or what a grammar forces.

A forced draft is right for sure. It's verified like any other one: its masks allow nothing else.
Engine thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from mlxdeck.server.backends.local.engine.mlx.drafting import Speculating, Speculation
from mlxdeck.server.backends.local.engine.speculation.payoff import MOST_DRAFT, Draft
from mlxdeck.server.backends.local.engine.speculation.prompt_lookup import MIN_MATCH


class Forcing(Protocol):
    """A logits processor that may leave no choice."""

    @property
    def is_narrow(self) -> bool:
        """Whether so little may come next that something forced may follow it."""

    def forced(self, most: int) -> list[int]:
        """At most so many of the tokens that have to come next."""

    def forced_behind(self, token: int, most: int) -> list[int]:
        """The same behind the next token."""


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """A row of a batch before its next pass."""

    sequence: Speculating | None
    processors: Sequence[Any]
    n_left: int
    """Tokens that its answer may still have."""


@dataclass(frozen=True, slots=True)
class RowDraft:
    """A row's draft."""

    tokens: list[int]
    n_forced: int = 0
    """How many of them, at the beginning, are certain."""
    match_length: int = 0
    """What speaks for the others."""
    share: float = 1.0
    """How likely each of the others is right."""

    @property
    def offer(self) -> Draft:
        """What it promises."""
        return Draft(len(self.tokens), self.share ** (1 - self.n_forced / len(self.tokens)))

    def cut(self, n_tokens: int) -> RowDraft:
        """The beginning of it."""
        n_forced = min(self.n_forced, n_tokens)
        return replace(self, tokens=self.tokens[:n_tokens], n_forced=n_forced)


class DraftPlanner:
    """Plans the passes of one batch."""

    def __init__(self, speculation: Speculation, *, can_cut: bool) -> None:
        """`can_cut`: rows can take tokens back. Else only what is sure is read, of a single row."""
        self._speculation = speculation
        self._can_cut = can_cut

    def awaits(self, rows: Sequence[DecodeRow]) -> bool:
        """Whether it's worth waiting for each row's last token: a draft may follow it."""
        n_rows = len(rows)
        return any(self._may_guess(each, n_rows) or self._may_force(each, n_rows) for each in rows)

    def _may_guess(self, row: DecodeRow, n_rows: int) -> bool:
        if not self._can_cut or row.sequence is None:
            return False
        length = row.sequence.drafter.length + 1
        if length < MIN_MATCH:
            return False
        share = row.sequence.acceptance.share(length)
        token_share = self._token_share(row.sequence, n_rows)
        return self._speculation.payoff.pays(share, n_rows, token_share)

    def _token_share(self, sequence: Speculating, n_rows: int) -> float:
        return sequence.drafter.token_share(self._speculation.payoff.costs.pass_s(n_rows))

    def _may_force(self, row: DecodeRow, n_rows: int) -> bool:
        found = self._forcing(row, n_rows)
        return found is not None and found.is_narrow and self._speculation.payoff.pays(1.0, n_rows)

    def _forcing(self, row: DecodeRow, n_rows: int) -> Forcing | None:
        # Rows that can't be cut would all have to read as many tokens.
        if not self._speculation.forces or not (self._can_cut or n_rows == 1):
            return None
        found = (each for each in row.processors if hasattr(each, "forced_behind"))
        return cast("Forcing | None", next(found, None))

    def plan(self, rows: Sequence[DecodeRow], pending: Sequence[int]) -> list[RowDraft]:
        """The drafts behind each row's last token, if there are any that pay; else empty."""
        drafts = []
        for row, token in zip(rows, pending, strict=True):
            # The pending token and the one behind the draft are the answer's, too.
            most = min(MOST_DRAFT, row.n_left - 2)
            ends = most <= 0 or token in self._speculation.stops
            drafts.append(RowDraft([]) if ends else self._draft(row, token, most, len(rows)))
        return self._paying(drafts)

    def plan_first(self, rows: Sequence[DecodeRow]) -> list[RowDraft]:
        """What is forced at the very beginning, to be read with the prompt's last token."""
        drafts = []
        for row in rows:
            most = min(MOST_DRAFT, row.n_left - 1)
            found = self._forcing(row, len(rows))
            forced = self._cut_at_stop(found.forced(most)) if found and most > 0 else []
            drafts.append(RowDraft(forced, len(forced)))
        return self._paying(drafts)

    def _paying(self, drafts: list[RowDraft]) -> list[RowDraft]:
        offers = [each.offer for each in drafts if each.tokens]
        width = self._speculation.payoff.width(offers, len(drafts))
        return [each.cut(width - 1) for each in drafts] if width > 1 else []

    def _draft(self, row: DecodeRow, pending: int, most: int, n_rows: int) -> RowDraft:
        found = self._forcing(row, n_rows)
        forced = self._cut_at_stop(found.forced_behind(pending, most)) if found else []
        guess = self._guess(row, pending, most, n_rows)
        if row.sequence is None or guess[: len(forced)] != forced or len(guess) <= len(forced):
            return RowDraft(forced, len(forced))
        length = row.sequence.drafter.length
        return RowDraft(guess, len(forced), length, row.sequence.acceptance.share(length))

    def _guess(self, row: DecodeRow, pending: int, most: int, n_rows: int) -> list[int]:
        """A guess, cut where the answer must or would end."""
        if row.sequence is None or not self._can_cut:
            return []
        if token_share := self._token_share(row.sequence, n_rows):
            share = row.sequence.acceptance.share(row.sequence.drafter.length)
            most = min(most, self._speculation.payoff.most_drafted(share, n_rows, token_share))
        guess = self._cut_at_stop(row.sequence.drafter.draft(most))
        for each in row.processors:
            if not guess or not hasattr(each, "takes"):
                return []
            guess = guess[: max(0, each.takes([pending, *guess]) - 1)]
        return guess

    def _cut_at_stop(self, draft: list[int]) -> list[int]:
        stops = self._speculation.stops
        ends = [n for n, token in enumerate(draft) if token in stops]
        return draft[: ends[0] + 1] if ends else draft
