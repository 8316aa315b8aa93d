"""Whether a draft is worth a longer pass of the model, and of which length: by what was measured.

A pass over several tokens a row costs every row of the batch its time, but brings tokens only to
those with a draft. What counts is how much faster each row gets, multiplied over all rows: one row
may not become faster at the expense of others. So speculation ends by itself as a batch grows.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTHS = (2, 3, 4, 6, 8, 12, 16)
"""Tokens a row of a pass. Few, as kernels are made for a shape."""
MOST_DRAFT = WIDTHS[-1] - 1
LEAST_GAIN = math.log(1.05)
N_SAMPLES = 9
ENOUGH_SAMPLES = 2
BUCKETS = (5, 9, 17)
"""Lengths of a match at which the next kind of match begins."""
FADE = 0.9
"""What a draft counts after the next one."""
PRIOR_TOKENS = 4.0
"""Drafted tokens that what is known of other sequences counts for, in a new one."""
GUESS = (0.5, 0.7, 0.85, 0.9)
"""Accepted share of each kind, before anything is known."""


def _kind(length: int) -> int:
    return sum(length >= each for each in BUCKETS)


class Acceptance:
    """The share of drafted tokens that is accepted, by the kind of the match; fades with time."""

    def __init__(self, prior: Acceptance | None = None) -> None:
        self._prior = prior
        self._tried = [0.0] * len(GUESS)
        self._taken = [0.0] * len(GUESS)

    def share(self, length: int) -> float:
        """Of the tokens behind a match of this length."""
        kind = _kind(length)
        known = self._prior.share(length) if self._prior else GUESS[kind]
        tried = self._tried[kind] + PRIOR_TOKENS
        return (self._taken[kind] + known * PRIOR_TOKENS) / tried

    def note(self, length: int, n_drafted: int, n_accepted: int) -> None:
        """A draft was verified. What follows the first wrong token was not tried."""
        kind = _kind(length)
        self._tried[kind] = self._tried[kind] * FADE + min(n_accepted + 1, n_drafted)
        self._taken[kind] = self._taken[kind] * FADE + n_accepted
        if self._prior:
            self._prior.note(length, n_drafted, n_accepted)


class PassCosts:
    """How long passes take, by their rows and the tokens of each."""

    def __init__(self, token_share: float) -> None:
        """`token_share` is what a further token costs, of a pass over one, until it is measured."""
        self._share = deque([token_share], maxlen=N_SAMPLES)
        self._took_s: defaultdict[tuple[int, int], deque[float]] = defaultdict(
            lambda: deque(maxlen=N_SAMPLES)
        )

    def note(self, n_rows: int, width: int, seconds: float) -> None:
        """A pass was done."""
        self._took_s[n_rows, width].append(seconds)
        if width == 1 or (plain_s := self._known_s(n_rows, 1)) is None:
            return
        ratio = max(1.0, seconds / plain_s)
        rest = n_rows * width - 1 - ratio * (n_rows - 1)
        if rest > 0:
            self._share.append((ratio - 1) / rest)

    def ratio(self, n_rows: int, width: int) -> float:
        """A pass's time, in passes over one token a row."""
        plain_s, wide_s = self._known_s(n_rows, 1), self._known_s(n_rows, width)
        if plain_s and wide_s:
            return max(1.0, wide_s / plain_s)
        share = statistics.median(self._share)
        return (1 + share * (n_rows * width - 1)) / (1 + share * (n_rows - 1))

    def pass_s(self, n_rows: int) -> float | None:
        """Seconds of a pass over one token a row; None before it's known."""
        return self._known_s(n_rows, 1)

    def _known_s(self, n_rows: int, width: int) -> float | None:
        found = self._took_s.get((n_rows, width), ())
        return statistics.median(found) if len(found) >= ENOUGH_SAMPLES else None


@dataclass(frozen=True, slots=True)
class Draft:
    """A row's draft."""

    n_tokens: int
    share: float
    """How many of them are expected to be accepted, one behind the other."""
    token_share: float = 0.0
    """What each of them is still to cost, of a pass."""

    def cost(self, width: int) -> float:
        """What those that such a pass takes are still to cost."""
        return self.token_share * min(self.n_tokens, width - 1)

    def gain(self, width: int) -> float:
        """How many times its tokens a pass of this width is expected to bring, as a logarithm."""
        n, share = min(self.n_tokens, width - 1), self.share
        if share >= 1:
            return math.log(1 + n)
        return math.log((1 - share ** (n + 1)) / (1 - share))


@dataclass(slots=True)
class Payoff:
    """What one engine has measured."""

    costs: PassCosts
    acceptance: Acceptance = field(default_factory=Acceptance)

    def width(self, drafts: Sequence[Draft], n_rows: int) -> int:
        """The best width of a pass for these drafts; 1 if none of them pays."""
        best, best_gain = 1, LEAST_GAIN
        if not drafts:
            return best
        longest = max(each.n_tokens for each in drafts)
        for width in WIDTHS:
            gain = sum(each.gain(width) for each in drafts)
            cost = sum(each.cost(width) for each in drafts)
            gain -= n_rows * math.log(self.costs.ratio(n_rows, width) + cost)
            if gain > best_gain:
                best, best_gain = width, gain
            if width > longest:
                break
        return best

    def most_drafted(self, share: float, n_rows: int, token_share: float) -> int:
        """How long a draft may be that is still to be made; 0 if none can pay."""
        return self.width([Draft(MOST_DRAFT, share, token_share)], n_rows) - 1

    def pays(self, share: float, n_rows: int, token_share: float = 0.0) -> bool:
        """Whether a draft with this share of accepted tokens could pay."""
        return self.most_drafted(share, n_rows, token_share) > 0
