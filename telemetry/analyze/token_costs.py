"""What a token costs: seconds to read one of a prompt and to write one of an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array, judged_tokens
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import EXACT, OK
from mlxdeck.telemetry.store.store import Store

MIN_TIMED_TOKENS = 64
"""With fewer computed tokens, a prompt takes the time of a pass, which says little of a token."""
MAX_SPEED_ROWS = 5_000
"""So many of the newest requests tell how fast tokens are read and written."""


@dataclass(frozen=True, slots=True)
class TokenCosts:
    """Seconds a token; NaN where too little was computed to tell."""

    read_s: float
    """The median of prompts."""
    write_s: float
    """The mean of all tokens."""


def total(store: Store, name: str, rows: Array) -> int:
    """The sum of a column of whole numbers over some rows, as far as they are known."""
    return int(summable(store.column(name)[rows]).sum(dtype=np.int64))


def seconds(store: Store, name: str, rows: Array) -> float:
    """The sum of a column of seconds over some rows, as far as they are known."""
    values = store.column(name)[rows]
    return float(values.sum(dtype=np.float64, where=~np.isnan(values)))


def rates(prefill_s: Array, n_computed: Array) -> Array:
    """Seconds that a token of each prompt took to read; NaN where too few were computed."""
    told = np.full(len(prefill_s), math.nan)
    np.divide(prefill_s, n_computed, out=told, where=n_computed >= MIN_TIMED_TOKENS)
    return told


def usual_rate(of: Array) -> float:
    """The rate of a prompt that has none of its own; NaN if none has."""
    known = of[~np.isnan(of)]
    return float(np.median(known)) if len(known) else math.nan


def _rates(store: Store, rows: Array) -> Array:
    """Those of requests that were computed."""
    known = summable(store.column("cached_tokens")[rows])
    n_computed = judged_tokens(store, rows).astype(np.float64) - known
    return rates(store.column("prefill_s")[rows].astype(np.float64), n_computed)


def token_costs(store: Store, rows: Array) -> TokenCosts:
    """Of the requests among some rows that were computed and succeeded."""
    told = answered(store, rows[store.column("cache")[rows] != EXACT])
    # Tokens of unknown time would make the others look cheap; transcripts tell no phases.
    written = told[~np.isnan(store.column("decode_s")[told])]
    n_written = total(store, "output_tokens", written)
    return TokenCosts(
        usual_rate(_rates(store, told)),
        seconds(store, "decode_s", written) / n_written if n_written > 0 else math.nan,
    )


def costs_at(store: Store, until_ts: float) -> TokenCosts:
    """Of the newest requests of a moment: no window and no filter changes how fast a server is."""
    return token_costs(store, store.by_end.between(-math.inf, until_ts)[-MAX_SPEED_ROWS:])


def answered(store: Store, rows: Array) -> Array:
    """Those of some rows that succeeded: what failed or was left saved nobody anything."""
    return np.asarray(rows[store.column("outcome")[rows] == OK])


@dataclass(frozen=True, slots=True)
class Saved:
    """What the caches saved requests that were answered."""

    tokens: int
    """Prompt tokens that were not computed."""
    of_tokens: int
    """All prompt tokens of the same requests, where it is known how many were cached."""
    answer_tokens: int
    """Tokens of whole answers that were not written again."""
    seconds: float
    """What they would have taken at the speed of those that were computed; NaN if that is not
    known."""


def saved(store: Store, rows: Array, until_ts: float) -> Saved:
    """By whole answers and by states together, as of a moment."""
    sums = SavedSums()
    sums.add(store, rows)
    return sums.worth(costs_at(store, until_ts))


class SavedSums:
    """The same added up in parts.

    A request that computed enough tells its own speed: servers, models and what else runs differ.
    """

    def __init__(self) -> None:
        self._n_known = self._n_judged = self._n_written = self._n_untimed = 0
        self._timed_s = 0.0

    def add(self, store: Store, rows: Array) -> None:
        """More requests."""
        rows = answered(store, rows)
        self._n_judged += int(judged_tokens(store, rows).sum(dtype=np.int64))
        whole = store.column("cache")[rows] == EXACT
        repeated, computed = rows[whole], rows[~whole]
        known, own_s = summable(store.column("cached_tokens")[computed]), _rates(store, computed)
        is_timed = ~np.isnan(own_s)
        n_whole = total(store, "input_tokens", repeated)
        self._n_known += n_whole + int(known.sum(dtype=np.int64))
        self._n_untimed += n_whole + int(known[~is_timed].sum(dtype=np.int64))
        self._timed_s += float(known[is_timed] @ own_s[is_timed])
        self._n_written += total(store, "output_tokens", repeated)

    def worth(self, cost: TokenCosts) -> Saved:
        """What they saved, at what a token costs where a request doesn't tell it."""
        rest = ((self._n_untimed, cost.read_s), (self._n_written, cost.write_s))
        seconds = self._timed_s + sum(n * each_s for n, each_s in rest if n)
        return Saved(self._n_known, self._n_judged, self._n_written, seconds)
