"""What a token costs: seconds to read one of a prompt and to write one of an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array, hit_tokens
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
    return int(summable(store.column(name)[rows]).astype(np.int64).sum())


def seconds(store: Store, name: str, rows: Array) -> float:
    """The sum of a column of seconds over some rows, as far as they are known."""
    return float(np.nan_to_num(store.column(name)[rows].astype(np.float64)).sum())


def token_costs(store: Store, rows: Array) -> TokenCosts:
    """Of the requests among some rows that were computed and succeeded."""
    whole = store.column("cache")[rows] == EXACT
    told = rows[~whole & (store.column("outcome")[rows] == OK)]
    n_read = total(store, "input_tokens", told) - int(hit_tokens(store, told)[1].sum())
    n_written = total(store, "output_tokens", told)
    return TokenCosts(
        seconds(store, "prefill_s", told) / n_read if n_read > 0 else math.nan,
        seconds(store, "decode_s", told) / n_written if n_written > 0 else math.nan,
    )


def saved_s(store: Store, rows: Array) -> float:
    """What the known tokens would have taken at the speed of those that were computed."""
    cost = token_costs(store, rows)
    exact, prefix = hit_tokens(store, rows)
    n_repeated = total(store, "output_tokens", rows[store.column("cache")[rows] == EXACT])
    return float(exact.sum() + prefix.sum()) * cost.read_s + n_repeated * cost.write_s
