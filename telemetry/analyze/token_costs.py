"""What a token costs: seconds to read one of a prompt and to write one of an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array, judged_tokens
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema.figures import EXACT, OK
from mlxdeck.telemetry.store.store import Store


@dataclass(frozen=True, slots=True)
class TokenCosts:
    """Mean seconds a token; NaN where nothing was computed."""

    read_s: float
    write_s: float


def total(store: Store, name: str, rows: Array) -> int:
    """The sum of a column of whole numbers over some rows, as far as they are known."""
    return int(summable(store.column(name)[rows]).sum(dtype=np.int64))


def seconds(store: Store, name: str, rows: Array) -> float:
    """The sum of a column of seconds over some rows, as far as they are known."""
    values = store.column(name)[rows]
    return float(values.sum(dtype=np.float64, where=~np.isnan(values)))


def token_costs(store: Store, rows: Array) -> TokenCosts:
    """Of the requests among some rows that were computed and succeeded."""
    told = answered(store, rows[store.column("cache")[rows] != EXACT])
    # Tokens of unknown time would make the others look cheap; transcripts tell no phases.
    read, written = (_timed(store, name, told) for name in ("prefill_s", "decode_s"))
    n_read = total(store, "input_tokens", read) - total(store, "cached_tokens", read)
    n_written = total(store, "output_tokens", written)
    return TokenCosts(
        seconds(store, "prefill_s", read) / n_read if n_read > 0 else math.nan,
        seconds(store, "decode_s", written) / n_written if n_written > 0 else math.nan,
    )


def _timed(store: Store, name: str, rows: Array) -> Array:
    return rows[~np.isnan(store.column(name)[rows])]


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
    """What they would have taken at the speed of those that were computed; NaN if none was."""


def saved(store: Store, rows: Array, computed_rows: Array | None = None) -> Saved:
    """By whole answers and by states together.

    The speed is that of `computed_rows`, or of the same rows. Where hardly anything was computed,
    a few tokens bear the whole time of a pass, and others have to tell the speed.
    """
    sums = SavedSums()
    sums.add(store, rows)
    return sums.worth(token_costs(store, rows if computed_rows is None else computed_rows))


class SavedSums:
    """The same added up in parts."""

    def __init__(self) -> None:
        self._n_known = self._n_judged = self._n_written = 0

    def add(self, store: Store, rows: Array) -> None:
        """More requests."""
        rows = answered(store, rows)
        self._n_judged += int(judged_tokens(store, rows).sum(dtype=np.int64))
        whole = store.column("cache")[rows] == EXACT
        repeated, computed = rows[whole], rows[~whole]
        self._n_known += total(store, "input_tokens", repeated)
        self._n_known += total(store, "cached_tokens", computed)
        self._n_written += total(store, "output_tokens", repeated)

    def worth(self, cost: TokenCosts) -> Saved:
        """What they saved, at what a token costs."""
        seconds = self._n_known * cost.read_s + self._n_written * cost.write_s
        return Saved(self._n_known, self._n_judged, self._n_written, seconds)
