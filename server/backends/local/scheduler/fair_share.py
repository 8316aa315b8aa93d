"""How far sessions are ahead of their share of what is read. Counts steps, and reads no clock.

The share of a session is what it would have if each pass were divided among all that wait in that
step. A session that waits alone has all of it, and is not ahead of anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

WINDOW_STEPS = 64
"""A session that has not waited for so long is no longer ahead."""


class FairShare:
    """Over any steps in which others wait too, no session gets more than its share and a chunk.

    What it lacks is forgotten, so that nobody is owed a long time in which the others wait. Thus
    `ahead` is the most that a session is above its share over any of the last steps, however many.
    """

    def __init__(self, chunk_tokens: int) -> None:
        self._chunk = chunk_tokens
        self._half = max(1, chunk_tokens // 2)
        self._step = 0
        self._waiting: frozenset[str] = frozenset()
        self._given = Counter[str]()
        """Tokens of this step."""
        self._ahead: dict[str, float] = {}
        self._seen: dict[str, int] = {}
        """The step in which a session last waited."""

    def begin_step(self, waiting: Iterable[str]) -> None:
        """Another step, in which these sessions wait."""
        self._settle()
        self._step += 1
        self._waiting = frozenset(waiting)
        self._seen.update(dict.fromkeys(self._waiting, self._step))
        for session in [each for each in self._ahead if self._is_past(each)]:
            del self._ahead[session], self._seen[session]

    def _is_past(self, session: str) -> bool:
        return self._step - self._seen[session] >= WINDOW_STEPS

    def _settle(self) -> None:
        """The last step is over."""
        if len(self._waiting) > 1 and self._given:
            share = self._given.total() / len(self._waiting)
            for session in self._waiting:
                ahead = self._ahead.get(session, 0.0) + self._given[session] - share
                self._ahead[session] = max(0.0, ahead)
        self._given.clear()

    @property
    def most(self) -> int:
        """The largest pass: half a chunk, if several sessions wait."""
        return self._chunk if len(self._waiting) < 2 else self._half

    def ahead(self, session: str) -> float:
        """How many tokens it is above its share, those of this step included."""
        return self._ahead.get(session, 0.0) + self._given[session]

    def allows(self, session: str, n_tokens: int) -> bool:
        """Whether a session that waits may get so many tokens in this step; at most `most`.

        It may be ahead by half a chunk. If none may be, the one that is least ahead is next. The
        other half is for that.
        """
        n_others = len(self._waiting) - 1
        own = n_tokens * n_others / (n_others + 1)
        return n_others < 1 or self.ahead(session) + own <= self._half

    def give(self, session: str, n_tokens: int) -> None:
        """It gets them."""
        self._given[session] += n_tokens
