"""Who of those that wait gets the next place in the engine. Values in, values out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

GUEST_SHARE = 4
"""One place more for so many: for a short prompt of a session that has none."""
MAX_PASSED = 16
"""A request that others were preferred to so often is preferred to others."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request that waits for a place."""

    session: str
    left_tokens: int
    """Prompt tokens that are not known yet."""
    n_passed: int = 0
    """How often a later one was preferred."""


def next_place(
    waiting: Sequence[Candidate], running: Sequence[str], *, max_batch: int, short_tokens: int
) -> int | None:
    """The index of the next to be let in, in order of arrival; None if nobody is.

    `running` holds the session of each place that is taken. Sessions take turns: the one with the
    fewest places is next. If all places are taken, short prompts of sessions without one still
    find some. Thus a short request does not wait for the long answers of others.
    """
    n_places = Counter(running)
    left = max_batch - len(running)
    if left > 0:
        return min(range(len(waiting)), key=lambda n: _rank(waiting[n], n, n_places), default=None)
    if left + max_batch // GUEST_SHARE <= 0:
        return None
    for n, each in enumerate(waiting):
        if each.left_tokens <= short_tokens and not n_places[each.session]:
            return n
    return None


def _rank(candidate: Candidate, arrival: int, n_places: Counter[str]) -> tuple[int, int]:
    is_aged = candidate.n_passed >= MAX_PASSED
    return (-1 if is_aged else n_places[candidate.session], arrival)
