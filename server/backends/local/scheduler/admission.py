"""Who of those that wait gets the next place in the engine. Values in, values out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

EXTRA_SHARE = 4
"""One place more for so many: for a short prompt of a session that has none."""
EXTRA_TOKENS = 256
"""Whoever has written so many in an extra place gives it up, if another one needs it."""
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
    may_be_extra: bool = True
    """Whether an extra place may be its own; not if it has had one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the engine that is taken."""

    session: str
    is_extra: bool = False
    """Whether it is one of those for short prompts."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is let in next, by its index among those that wait, and to what kind of place."""

    index: int
    is_extra: bool = False


def next_place(
    waiting: Sequence[Candidate], running: Sequence[Place], *, max_batch: int, short_tokens: int
) -> Choice | None:
    """The next to be let in, of those that wait in order of arrival; None if nobody is.

    Sessions take turns: the one with the fewest places is next. If all places are taken, short
    prompts of sessions without one still find some. Thus a short request does not wait for the long
    answers of others. Extra places are counted apart: however many short requests come, a place
    that others leave is for those that wait.
    """
    n_places = Counter(each.session for each in running)
    n_extra = sum(each.is_extra for each in running)
    if len(running) - n_extra < max_batch:
        ranked = range(len(waiting))
        found = min(ranked, key=lambda n: _rank(waiting[n], n, n_places), default=None)
        return None if found is None else Choice(found)
    if n_extra >= max_batch // EXTRA_SHARE:
        return None
    for n, each in enumerate(waiting):
        if _is_for_extra(each, short_tokens) and not n_places[each.session]:
            return Choice(n, is_extra=True)
    return None


def needs_extra(
    waiting: Sequence[Candidate], running: Sequence[Place], *, max_batch: int, short_tokens: int
) -> bool:
    """Whether a short prompt waits only because all extra places are taken."""
    if not 0 < max_batch // EXTRA_SHARE <= sum(each.is_extra for each in running):
        return False
    sessions = {each.session for each in running}
    short = (each for each in waiting if _is_for_extra(each, short_tokens))
    return any(each.session not in sessions for each in short)


def _is_for_extra(candidate: Candidate, short_tokens: int) -> bool:
    return candidate.may_be_extra and candidate.left_tokens <= short_tokens


def _rank(candidate: Candidate, arrival: int, n_places: Counter[str]) -> tuple[int, int]:
    is_aged = candidate.n_passed >= MAX_PASSED
    return (-1 if is_aged else n_places[candidate.session], arrival)
