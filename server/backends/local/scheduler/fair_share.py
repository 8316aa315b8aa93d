"""How many tokens sessions have read while others waited. Counts steps, and reads no clock."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

WINDOW_STEPS = 64


class FairShare:
    """Over any `WINDOW_STEPS` steps, no session gets more than its share and a chunk.

    Only what it gets while others wait is counted. The session that had least may always go on.
    """

    def __init__(self, chunk_tokens: int) -> None:
        self._chunk = chunk_tokens
        self._half = max(1, chunk_tokens // 2)
        self._step = 0
        self._waiting: set[str] = set()
        self._window: deque[tuple[int, str, int]] = deque()
        self._had = Counter[str]()

    def begin_step(self, waiting: Iterable[str]) -> None:
        """Another step, in which these sessions wait."""
        self._step += 1
        self._waiting = set(waiting)
        while self._window and self._window[0][0] <= self._step - WINDOW_STEPS:
            _, session, n_tokens = self._window.popleft()
            self._had[session] -= n_tokens
            if not self._had[session]:
                del self._had[session]

    @property
    def most(self) -> int:
        """The largest pass: half a chunk, if several sessions wait."""
        return self._chunk if len(self._waiting) < 2 else self._half

    def allows(self, session: str, n_tokens: int) -> bool:
        """Whether a session that waits may get so many tokens in this step; at most `most`.

        It may be ahead by half a chunk. What was counted for others leaves the window before it
        does, so the other half is needed too.
        """
        total = sum(self._had[each] for each in self._waiting) + n_tokens
        if len(self._waiting) < 2:
            return True
        return self._had[session] + n_tokens <= total / len(self._waiting) + self._half

    def give(self, session: str, n_tokens: int) -> None:
        """It gets them."""
        if len(self._waiting) > 1:
            self._window.append((self._step, session, n_tokens))
            self._had[session] += n_tokens
