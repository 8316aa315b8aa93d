"""Prompts that were computed again, by what is to blame. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.finding import MIN_REQUESTS, Traffic
from mlxdeck.telemetry.analyze.shown_names import ShownNames
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.query.lexer import quoted
from mlxdeck.telemetry.store.store import Store

LOST_SHARE = 0.1
"""Of a prompt: a miss that has so much computed again is one that clients notice."""
REASONS = {
    "evicted": ("they had to give way to others", "raise --prefix-cache-bytes"),
    "model_changed": ("the model was changed", "the next turns find what they need"),
    "expired": ("what was known had become too old", "raise --answer-max-age-s"),
}
"""Reasons of misses without a block to blame: what happened, and what helps."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """Misses that have a cause in common."""

    subject: str
    """A block of the prompt, or one of `REASONS`."""
    filter: str
    rows: Array
    n_missed: int
    """Misses of any cause."""
    saves_s: float
    """What it took to compute all of them again."""


class BlamedMisses:
    """Of some requests that ended; computed again only if these are other ones than before."""

    def __init__(self) -> None:
        self._rows: Array | None = None
        self._n_rewritten = 0
        self._found: list[Blamed] = []
        self.n_computed = 0
        """How often they were computed."""

    def of(self, store: Store, rows: Array) -> list[Blamed]:
        """The causes that cost enough to matter."""
        is_same = self._rows is not None and np.array_equal(self._rows, rows)
        if not is_same or store.n_rewritten != self._n_rewritten:
            # A copy: an index is a view that moves.
            self._rows, self._n_rewritten = rows.copy(), store.n_rewritten
            self._found = _blamed(store, rows)
            self.n_computed += 1
        return self._found


def _blamed(store: Store, rows: Array) -> list[Blamed]:
    traffic = Traffic(store, rows, ShownNames())
    told = traffic.is_any("miss_reason", "diverged", *REASONS)
    if np.count_nonzero(told) < MIN_REQUESTS:
        return []
    lost_tokens = traffic.lost_tokens
    is_large = lost_tokens >= LOST_SHARE * traffic.known("input_tokens")
    missed = np.flatnonzero(told & traffic.computed & is_large)
    read_s, found = traffic.read_s(lost_tokens), []
    for name, field in (("blame", "blame"), ("miss_reason", "miss")):
        for subject, own in traffic.groups(missed, name):
            saves_s = float(read_s[own].sum())
            is_cause = subject not in ("", "diverged") and len(own) >= MIN_REQUESTS
            if is_cause and traffic.matters(saves_s):
                text = f"{field}={quoted(subject)}"
                found.append(Blamed(subject, text, rows[own], len(missed), saves_s))
    return found
